// The table of keys in docs/configuration.md, from the schema.

import { type DocumentedKey, keysOf, sitterSchema } from "./schema.ts";

/** Keys of the sitter's file, the section of PostgreSQL once. */
export function sitterKeys(): DocumentedKey[] {
  return keysOf(sitterSchema).filter(({ path }) => !path.startsWith("postgresMgrCfg."));
}

/** Markdown. */
export function keyTable(keys: readonly DocumentedKey[]): string {
  const rows = keys
    .filter(({ obsolete }) => obsolete !== true)
    .map((key) => `| \`${key.path}\` | ${defaultOf(key)} | ${key.description.replaceAll("|", "\\|")} |`);
  const gone = keys
    .filter(({ obsolete }) => obsolete === true)
    .map((key) => `| \`${key.path}\` | ${key.description} |`);
  const table = ["| key | default | what it is |", "|---|---|---|", ...rows];
  return [
    ...table,
    ...(gone.length === 0
      ? []
      : ["", "Keys of the original that are accepted with a warning:", "", "| key | instead |", "|---|---|", ...gone]),
  ].join("\n");
}

function defaultOf({ required, fallback }: DocumentedKey): string {
  return required ? "**required**" : (fallback ?? "–");
}
