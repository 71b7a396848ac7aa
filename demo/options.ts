// What scripts/lib/launch.mjs hands to the demonstration.

export interface Options {
  /** The one folder that it writes to. */
  readonly folder: string;
  /** Folder of `postgres` and `initdb`. */
  readonly postgres: string;
  /** How a person calls manatee-adm from the clone. */
  readonly adm: string;
  readonly zookeeper: boolean;
  /** Ends by itself, with the exit status that the run deserves. */
  readonly auto: boolean;
  /** Lines instead of the live table. */
  readonly plain: boolean;
  /** `npm run dev`: no story; sitters are restarted when the code changes. */
  readonly dev: boolean;
}

export function readOptions(args: readonly string[]): Options {
  const valueOf = (name: string): string => {
    const value = args[args.indexOf(name) + 1];
    if (!args.includes(name) || value === undefined) throw new Error(`${name} is missing: start it by npm run demo`);
    return value;
  };
  return {
    folder: valueOf("--folder"),
    postgres: valueOf("--postgres"),
    adm: valueOf("--adm"),
    zookeeper: args.includes("--zookeeper"),
    auto: args.includes("--auto"),
    plain: args.includes("--plain"),
    dev: args.includes("--dev"),
  };
}
