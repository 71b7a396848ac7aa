// How a tool ends that could not do what it was asked: what it says, and its exit status.

import { CommanderError } from "commander";
import { explainError, type ManateeError } from "../base/errors.ts";
import type { Terminal } from "./context.ts";
import { paint } from "./paint.ts";
import { Failed, WrongUse } from "./wrong-use.ts";

/** 0: done, and all is well. 1: it failed, or there are problems. 2: wrong use. */
export type ExitStatus = 0 | 1 | 2;

interface Mistake {
  readonly tool: string;
  /** What leads to the usage: `show --help`. */
  readonly help: string;
  /** Words a message of wrong use for this tool. */
  readonly wording?: (message: string) => string;
}

export function explainFailure(
  error: unknown,
  terminal: Terminal,
  { tool, help, wording = (message) => message }: Mistake,
): ExitStatus {
  if (error instanceof Failed) return 1;
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  if (error instanceof CommanderError || error instanceof WrongUse) {
    terminal.note(`${tool}: ${wording(error.message.replace(/^error: /, ""))}`);
    terminal.note(`usage: ${tool} ${help}`);
    return 2;
  }
  terminal.note(`${tool}: ${paint(terminal.noteColour, "red", explainError(error))}`);
  const hint = hintOf(error);
  if (hint !== undefined) terminal.note(hint);
  return 1;
}

/** What to do, with the code by which more can be found. */
export function hintOf(error: unknown): string | undefined {
  return isManateeError(error) ? `${error.hint} (${error.code})` : undefined;
}

/** By shape: two copies of the package may be loaded. */
function isManateeError(error: unknown): error is ManateeError {
  return error instanceof Error && "code" in error && "hint" in error;
}
