// The operator's pg_hba rules as they are to be in force: what the file says; where PostgreSQL rejects that, what it took in last, also before this sitter and
// this server were started; where nothing is known that it took in, none, so that nobody but the sitter and the peers comes in. Never wider than what
// the operator wrote once, and a mistake in it keeps the sitter from no change of settings of its own, which S1 and a takeover need.

import { readFile } from "node:fs/promises";
import { explainError } from "../../base/errors.ts";
import type { PostgresConfig } from "../../config/types.ts";
import { readIfThere, writeIfDifferent } from "./durable.ts";
import { operatorHbaFile } from "./hba.ts";
import type { Places } from "./places.ts";

const NONE = "";

export class OperatorRules {
  readonly #config: PostgresConfig;
  readonly #places: Places;
  /** The file's, when it was read last; undefined: it can't be read. */
  #written: string | undefined;
  /** Handed out last; undefined: withheld. */
  #given: string | undefined;
  /** Since the file was read with another content: what PostgreSQL rejects, and why. */
  readonly #rejected = new Map<string | undefined, string>();

  constructor(config: PostgresConfig, places: Places) {
    this.#config = config;
    this.#places = places;
  }

  /** What the file that is written next is to end with. */
  async read(): Promise<string> {
    let unreadable: string | undefined;
    const written = await readFile(operatorHbaFile(this.#config), "utf8").catch((error: unknown) => {
      unreadable = explainError(error);
      return undefined;
    });
    if (written !== this.#written) this.#rejected.clear();
    this.#written = written;
    if (unreadable !== undefined) this.#rejected.set(undefined, unreadable);
    const candidates = [written, await readIfThere(this.#places.acceptedHba)];
    this.#given = candidates.find((rules) => rules !== undefined && !this.#rejected.has(rules)) ?? NONE;
    return this.#given;
  }

  /** No rules this time: the gate must close, or the server start, whatever is in them. */
  withhold(): string {
    this.#given = undefined;
    return NONE;
  }

  /** Why others are in force than the file has, and which. */
  get warning(): string | undefined {
    const why = this.#rejected.get(this.#written);
    if (why === undefined) return undefined;
    return `${why}: ${this.#given === NONE ? "none of the operator's rules are in force, clients are not let in" : "the rules of before are in force"}`;
  }

  /** PostgreSQL took in what was read last. */
  async accepted(): Promise<void> {
    if (this.#given !== undefined && this.#given === this.#written)
      await writeIfDifferent(this.#places.acceptedHba, this.#given);
  }

  /** PostgreSQL rejects what was read last. False: it was no rule of the operator's. */
  reject(why: string): boolean {
    if (this.#given === undefined || this.#given === NONE) return false;
    this.#rejected.set(this.#given, why);
    return true;
  }

  /** What made PostgreSQL reject them may be mended. */
  tryAgain(): void {
    this.#rejected.clear();
  }
}
