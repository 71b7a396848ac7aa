// Commands that the operating system may refuse to a user: tried as oneself first, then behind the configured prefix (`sudo -n`).

import { type ProgramAnswer, runToEnd } from "./program.ts";

export class Privileges {
  readonly #prefix: readonly string[];
  readonly #refused: (answer: ProgramAnswer) => boolean;
  /** Verbs that were refused without the prefix, and done with it. */
  readonly #needed = new Set<string>();

  /** `refused`: whether an answer says that the caller lacks the right. */
  constructor(prefix: readonly string[] | undefined, refused: (answer: ProgramAnswer) => boolean) {
    this.#prefix = prefix ?? [];
    this.#refused = refused;
  }

  /** `verb`: what is remembered of, such as `zfs mount`. */
  async run(verb: string, command: readonly string[], folder?: string): Promise<ProgramAnswer> {
    if (!this.#needed.has(verb)) {
      const answer = await runToEnd(command, folder);
      if (answer.status === 0 || this.#prefix.length === 0 || !this.#refused(answer)) return answer;
    }
    const answer = await runToEnd([...this.#prefix, ...command], folder);
    // A prefix that was refused itself (no sudoers line) leaves the verb to be tried afresh: rights are given while we run.
    if (answer.status === 0) this.#needed.add(verb);
    return answer;
  }

  /** For a command with a stream, which can't be tried twice: the prefix stands before it where `verb` was found to need it. */
  like(verb: string, command: readonly string[]): readonly string[] {
    return this.#needed.has(verb) ? [...this.#prefix, ...command] : command;
  }
}
