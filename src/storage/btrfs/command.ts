// One btrfs command: run with the rights it needs, tried again for a moment where the subvolume is busy, its refusal made an error.

import type { Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import { Privileges } from "../common/privileges.ts";
import type { ProgramAnswer } from "../common/program.ts";
import { storageError, type StorageErrorCode } from "../errors.ts";
import { isRefused, lastWords, mayBeSent, meaningOf } from "./answers.ts";

/** Whoever reads a snapshot for sending is mostly done, or told to end, within a second. */
const BUSY_PAUSES_MS = [20, 40, 80, 160, 320, 640, 1000, 1000];

const RIGHTS_HINT = "Configure storage.sudo and the lines of sudoers that docs/operating/storage.md shows.";

/** What a code that the program's words give means for one command. */
export type Rewording = Partial<Readonly<Record<StorageErrorCode, StorageErrorCode>>>;

export class BtrfsCommand {
  readonly #program: string;
  readonly #sudo: readonly string[];
  readonly #privileges: Privileges;
  readonly #timers: Timers;

  constructor({ program, sudo, timers }: { program: string; sudo: readonly string[] | undefined; timers: Timers }) {
    this.#program = program;
    this.#sudo = sudo ?? [];
    this.#privileges = new Privileges(sudo, isRefused);
    this.#timers = timers;
  }

  /** Its output. */
  async run(args: readonly string[], rewording: Rewording = {}): Promise<string> {
    for (const pauseMs of [...BUSY_PAUSES_MS, undefined]) {
      const answer = await this.#privileges.run(args.slice(0, 2).join(" "), [this.#program, ...args]);
      if (answer.status === 0) return answer.stdout;
      if (pauseMs === undefined || this.#meaningOf(answer) !== "STORAGE_BUSY")
        throw this.refusal(args, answer, rewording);
      await pause(this.#timers, pauseMs);
    }
    throw new Error("unreachable");
  }

  /** The whole command of one that is fed or read as a stream: sending and receiving are root's. */
  stream(args: readonly string[]): readonly string[] {
    return [...(isRoot() ? [] : this.#sudo), this.#program, ...args];
  }

  refusal(args: readonly string[], answer: ProgramAnswer, rewording: Rewording = {}): Error {
    const meaning = this.#meaningOf(answer);
    const code = rewording[meaning] ?? meaning;
    const message = `btrfs: ${args.join(" ")}: ${lastWords(answer)}`;
    return storageError(code, message, code === "STORAGE_NOT_PERMITTED" ? { hint: RIGHTS_HINT } : {});
  }

  #meaningOf(answer: ProgramAnswer): StorageErrorCode {
    return mayBeSent(answer) && (isRoot() || this.#sudo.length > 0) ? "STORAGE_BUSY" : meaningOf(answer);
  }
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
