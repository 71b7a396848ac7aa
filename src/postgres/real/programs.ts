// Runs a program to its end, with what it said.

import { spawn } from "node:child_process";
import { ManateeError, type Remedy } from "../../base/errors.ts";
import { cleanEnvironment } from "./environment.ts";

export interface ProgramRun {
  readonly program: string;
  readonly args: readonly string[];
  /** Its working directory: ours, so that one which a killed sitter left behind is found. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Of the error if it does not end with status 0. */
  readonly failure: { readonly code: string; readonly what: string; readonly remedy: Remedy; readonly hint: string };
  /** Each line that it writes, either stream. */
  readonly onLine?: (line: string) => void;
}

/** Output kept of one program: enough for its last words. */
const OUTPUT_KEPT = 64 * 1024;

/** Resolves with its output when it ended well. Aborted: the program is killed, and the promise rejects when it is gone. */
export function runProgram(run: ProgramRun): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(run.program, run.args, {
      cwd: run.folder,
      stdio: ["pipe", "pipe", "pipe"],
      env: cleanEnvironment(run.environment),
      signal: run.signal,
      killSignal: "SIGKILL",
    });
    let output = "";
    let partial = "";
    const take = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-OUTPUT_KEPT);
      if (!run.onLine) return;
      const lines = (partial + chunk.toString()).split(/[\r\n]+/);
      partial = lines.pop() ?? "";
      for (const line of lines) run.onLine(line);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    let cause: unknown;
    child.once("error", (error) => {
      cause = error;
      if (child.pid === undefined) reject(failed(run, "it can't be started", error));
    });
    child.once("close", (status, signal) => {
      if (status === 0 && cause === undefined) return resolve(output);
      const lastWords = output.trim().split("\n").slice(-4).join(" | ");
      reject(failed(run, `${signal ?? `status ${status}`}: ${lastWords}`, cause));
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(run.input ?? "");
  });
}

function failed(run: ProgramRun, ending: string, cause: unknown): ManateeError {
  const { code, what, remedy, hint } = run.failure;
  return new ManateeError({ code, message: `${what} failed (${ending})`, remedy, hint, cause });
}
