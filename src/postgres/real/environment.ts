// The environment of programs that we start.

/** Ours without libpq's and PostgreSQL's variables (PGDATA, PGOPTIONS, PGPASSFILE …), which would change what the programs do; messages in English, to be parsed. */
export function cleanEnvironment(additions: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("PG") && !name.startsWith("LC_") && name !== "LANGUAGE",
  );
  return { ...Object.fromEntries(kept), LC_MESSAGES: "C", ...additions };
}
