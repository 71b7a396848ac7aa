// The operator's postgresql.conf as it is to be in force. A line in it that PostgreSQL can't read makes it take in nothing at all, our settings neither: then the settings that the running
// server has from there stand in our file instead of it, until the operator has corrected it.

import type { Context } from "./context.ts";
import type { Places } from "./places.ts";
import { quoteLiteral, type SqlSession } from "./sql.ts";

export interface ConfigMistake {
  /** Which line, and what is wrong with it. */
  readonly text: string;
  /** PostgreSQL takes in nothing, and not only not that line. */
  readonly keepsAll: boolean;
}

export class OperatorSettings {
  #held: Readonly<Record<string, string>> | undefined;
  #mistake: ConfigMistake | undefined;

  /** What stands in our file instead of the operator's and of `parameters`; undefined: these themselves. */
  get held(): Readonly<Record<string, string>> | undefined {
    return this.#held;
  }

  get warning(): string | undefined {
    if (this.#mistake === undefined) return undefined;
    return `${this.#mistake.text}: ${this.#held ? "the settings of before are in force" : "the others are in force"}, and the server would not start again`;
  }

  /** What the files say now. */
  found(mistake: ConfigMistake | undefined): void {
    // What is held is no mistake, and that of the operator's file is still there.
    if (!this.#held) this.#mistake = mistake;
  }

  /** False: they are held already, so that the mistake is elsewhere. */
  async hold(context: Context): Promise<boolean> {
    if (this.#held) return false;
    this.#held = await context.ask((session) => settingsInForce(session, context.places));
    return true;
  }

  /** The file may be corrected; a server that starts has nothing to hold. */
  release(): void {
    this.#held = undefined;
    this.#mistake = undefined;
  }
}

/** In the files as they are now, which PostgreSQL has perhaps not read yet. What counts from the next start on only is none. */
export async function findConfigMistake(
  session: SqlSession,
  { reloadable }: Places,
): Promise<ConfigMistake | undefined> {
  const [row] = await session.query(
    `with files as (select * from pg_file_settings),
       ours as (select coalesce(bool_or(applied), false) as applied from files where sourcefile = ${quoteLiteral(reloadable)})
     select sourcefile as file, sourceline as line, name, error, ours.applied as ours_applied from files, ours
     where error is not null
       and (not ours.applied or not exists (select from pg_settings s where s.name = files.name and s.context = 'postmaster'))
     order by seqno limit 1`,
  );
  if (!row) return undefined;
  const { file, line, name, error } = row;
  const about = name === null || name === undefined ? "" : `${name}: `;
  return {
    text: `PostgreSQL rejects line ${line} of ${file} (${about}${error})`,
    keepsAll: row["ours_applied"] !== "t",
  };
}

/** From any file but ours and ALTER SYSTEM's, which is read in any case. Settings of an extension show with their value only where the file has them. */
async function settingsInForce(session: SqlSession, { reloadable }: Places): Promise<Readonly<Record<string, string>>> {
  const others = `sourcefile <> ${quoteLiteral(reloadable)} and sourcefile not like '%/postgresql.auto.conf'`;
  const rows = await session.query(
    `select name, setting from pg_settings where source = 'configuration file' and ${others}
     union select name, current_setting(name, true) from pg_file_settings
     where name like '%.%' and ${others} and current_setting(name, true) is not null order by name`,
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name ?? "", setting ?? ""]));
}
