// One zfs command: run with the rights it needs, tried again for a moment where the dataset is busy, its refusal made an error.

import { userInfo } from "node:os";
import type { Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import { Privileges } from "../common/privileges.ts";
import type { ProgramAnswer } from "../common/program.ts";
import type { StorageErrorCode } from "../errors.ts";
import type { DatasetName } from "../port.ts";
import { isRefused, meaningOf, refusal } from "./answers.ts";
import { allowCommand } from "./rights.ts";

/** Just unmounted, just received, just asked by somebody else: busy passes in some 20 ms, seldom in a second. */
const BUSY_PAUSES_MS = [20, 40, 80, 160, 320, 640, 1000, 1000];

export class ZfsCommand {
  readonly program: string;
  readonly #privileges: Privileges;
  readonly #timers: Timers;

  constructor({ program, sudo, timers }: { program: string; sudo: readonly string[] | undefined; timers: Timers }) {
    this.program = program;
    this.#privileges = new Privileges(sudo, isRefused);
    this.#timers = timers;
  }

  /** Its output. `about`: the dataset whose rights the hint names. */
  async run(
    args: readonly string[],
    about: DatasetName,
    options: { dataset?: StorageErrorCode } = {},
  ): Promise<string> {
    const answer = await this.answer(args);
    if (answer.status === 0) return answer.stdout;
    throw this.refusal(args, answer, about, options);
  }

  /** Whatever it says. */
  async answer(args: readonly string[]): Promise<ProgramAnswer> {
    const command = [this.program, ...args];
    const verb = args[0] as string;
    for (const pauseMs of [...BUSY_PAUSES_MS, undefined]) {
      const answer = await this.#privileges.run(verb, command);
      if (answer.status === 0 || pauseMs === undefined || meaningOf(answer) !== "STORAGE_BUSY") return answer;
      await pause(this.#timers, pauseMs);
    }
    throw new Error("unreachable");
  }

  /** Of a program beside zfs (`chown`). */
  async runOther(command: readonly string[]): Promise<void> {
    const answer = await this.#privileges.run(command[0] as string, command);
    if (answer.status !== 0) throw refusal(command.join(" "), answer);
  }

  /** The whole command of one that is fed or read as a stream. Sending and receiving can be delegated, or not even looking is allowed (zfs-fuse). */
  stream(args: readonly string[]): readonly string[] {
    return this.#privileges.like("get", [this.program, ...args]);
  }

  /** `dataset`: what "does not exist" means here. */
  refusal(
    args: readonly string[],
    answer: ProgramAnswer,
    about: DatasetName,
    { dataset = "STORAGE_NO_DATASET" }: { dataset?: StorageErrorCode } = {},
  ): Error {
    const meaning = meaningOf(answer);
    const code = meaning === "STORAGE_NO_DATASET" ? dataset : meaning;
    const what = args.filter((arg) => !arg.includes("=")).join(" ");
    if (code !== "STORAGE_NOT_PERMITTED") return refusal(what, answer, { code });
    const user = userInfo().username;
    const hint = `As root: ${allowCommand(user, about)}; where that is not enough (mounting on Linux, zfs-fuse), configure storage.sudo and the lines of sudoers that docs/operating/storage.md shows.`;
    return refusal(what, answer, { code, hint });
  }
}
