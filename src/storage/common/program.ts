// Runs the programs of a storage: to their end, or with a stream in or out. Never through a shell.

import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { storageError } from "../errors.ts";

export interface ProgramAnswer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is kept of an answer: lists of thousands of snapshots fit. */
const OUTPUT_MAX = 64 * 1024 * 1024;
const LAST_WORDS_MAX = 4096;

/** Programs of storage live where a user's PATH often doesn't reach, and are read in one language. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin`, LC_ALL: "C", LANG: "C" };
}

/** Resolves whatever its status. Errors: `STORAGE_UNAVAILABLE` where it can't be started. */
export async function runToEnd(command: readonly string[], folder = "/"): Promise<ProgramAnswer> {
  const child = start(command, folder, ["ignore", "pipe", "pipe"]);
  const [stdout, stderr] = [
    collect(child.stdout as Readable, OUTPUT_MAX),
    collect(child.stderr as Readable, LAST_WORDS_MAX),
  ];
  const { status } = await ended(child, command);
  return { status, stdout: stdout(), stderr: stderr() };
}

/**
 * Its output, with backpressure. Leaving the loop, or an abort, ends the program; it is gone when the loop is left. `failed` makes the error of one
 * that ends with another status than 0.
 */
export async function* readFrom(
  command: readonly string[],
  { signal, failed, folder = "/" }: { signal: AbortSignal; failed: (answer: ProgramAnswer) => Error; folder?: string },
): AsyncGenerator<Uint8Array> {
  const child = start(command, folder, ["ignore", "pipe", "pipe"]);
  const stderr = collect(child.stderr as Readable, LAST_WORDS_MAX);
  const exit = ended(child, command);
  exit.catch(() => undefined);
  const kill = () => child.kill("SIGTERM");
  signal.addEventListener("abort", kill);
  if (signal.aborted) kill();
  let whole = false;
  try {
    for await (const chunk of child.stdout as Readable) yield chunk as Uint8Array;
    const { status } = await exit;
    if (signal.aborted) throw cancelled();
    if (status !== 0) throw failed({ status, stdout: "", stderr: stderr() });
    whole = true;
  } finally {
    signal.removeEventListener("abort", kill);
    if (!whole) await end(child, exit);
  }
}

/** The stream goes in, with backpressure. One that breaks, or an abort, ends the program before its input ends, so that it knows. */
export async function writeTo(
  command: readonly string[],
  stream: AsyncIterable<Uint8Array>,
  { signal, failed, folder = "/" }: { signal: AbortSignal; failed: (answer: ProgramAnswer) => Error; folder?: string },
): Promise<void> {
  const child = start(command, folder, ["pipe", "ignore", "pipe"]);
  const stderr = collect(child.stderr as Readable, LAST_WORDS_MAX);
  const exit = ended(child, command);
  exit.catch(() => undefined);
  const input = child.stdin as Writable;
  // Told by the exit.
  input.on("error", () => undefined);
  let stop: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => (stop = resolve));
  const over = Promise.race([stopped, exit.then(() => undefined)]).catch(() => undefined);
  const kill = () => {
    child.kill("SIGTERM");
    stop();
  };
  signal.addEventListener("abort", kill);
  if (signal.aborted) kill();
  try {
    await feed(input, stream, over);
    if (signal.aborted) throw cancelled();
    input.end();
    const { status } = await exit;
    if (signal.aborted) throw cancelled();
    if (status !== 0) throw failed({ status, stdout: "", stderr: stderr() });
  } catch (error) {
    await end(child, exit);
    throw signal.aborted ? cancelled() : error;
  } finally {
    signal.removeEventListener("abort", kill);
  }
}

/** Until the stream ends, or it is over: a source that stalls is not waited for then. */
async function feed(input: Writable, stream: AsyncIterable<Uint8Array>, over: Promise<void>): Promise<void> {
  const source = stream[Symbol.asyncIterator]();
  let whole = false;
  try {
    for (;;) {
      const next = await Promise.race([source.next(), over]);
      if (next === undefined) return;
      if (next.done === true) break;
      // Called back also where the program has gone.
      await new Promise<void>((resolve) => input.write(next.value, () => resolve()));
    }
    whole = true;
  } finally {
    if (!whole) void Promise.resolve(source.return?.()).catch(() => undefined);
  }
}

function cancelled(): Error {
  return storageError("STORAGE_CANCELLED", "the transfer was cancelled");
}

function start(
  command: readonly string[],
  folder: string,
  stdio: ["ignore" | "pipe", "ignore" | "pipe", "pipe"],
): ChildProcess {
  return spawn(command[0] as string, command.slice(1), { cwd: folder, env: environment(), stdio });
}

const KILL_AFTER_MS = 5000;

/** SIGTERM reaches a program behind sudo, SIGKILL would not. */
async function end(child: ChildProcess, exit: Promise<unknown>): Promise<void> {
  child.kill("SIGTERM");
  child.stdout?.destroy();
  child.stdin?.destroy();
  const timer = setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS);
  await exit.catch(() => undefined);
  clearTimeout(timer);
}

function ended(child: ChildProcess, command: readonly string[]): Promise<{ status: number | null }> {
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => {
      if (child.pid === undefined)
        reject(storageError("STORAGE_UNAVAILABLE", `${command[0]} can't be started`, { cause }));
    });
    child.once("close", (status) => resolve({ status }));
  });
}

function collect(stream: Readable, max: number): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    if (size < max) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString("utf8");
}
