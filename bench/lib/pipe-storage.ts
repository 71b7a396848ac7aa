// A storage that is two commands: one that writes a snapshot to its standard output, one that reads a stream from its standard input. For measuring the way between
// them, and nothing else.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Snapshot, Storage } from "../../src/storage/port.ts";

export interface Commands {
  readonly send: readonly string[];
  readonly receive: readonly string[];
}

export const SNAPSHOT: Snapshot = {
  dataset: "bench",
  name: "1",
  guid: "1",
  createdWallMs: 0,
  properties: {},
  holds: [],
  ownBytes: undefined,
  referencedBytes: undefined,
};

export function start([program, ...args]: readonly string[], stdio: ("pipe" | "ignore" | "inherit")[]): ChildProcess {
  return spawn(program as string, args, { stdio });
}

export async function ended(child: ChildProcess): Promise<void> {
  const status = child.exitCode ?? (await once(child, "exit"))[0];
  if (status !== 0) throw new Error(`${child.spawnargs.join(" ")} ended with ${String(status)}`);
}

export function pipeStorage({ send, receive }: Commands): Storage {
  const known: Partial<Storage> = {
    capabilities: () =>
      Promise.resolve({ atomic: true, shared: true, incremental: false, resume: false, format: "tar" }),
    snapshots: () => Promise.resolve([SNAPSHOT]),
    hold: () => Promise.resolve(),
    release: () => Promise.resolve(),
    estimate: () => Promise.resolve(undefined),
    abandonReceive: () => Promise.resolve(),
    async *send({ signal }) {
      const child = start(send, ["ignore", "pipe", "inherit"]);
      const abort = () => child.kill("SIGKILL");
      signal.addEventListener("abort", abort);
      try {
        yield* child.stdout as AsyncIterable<Uint8Array>;
        await ended(child);
      } finally {
        signal.removeEventListener("abort", abort);
        child.kill("SIGKILL");
      }
    },
    async receive({ stream }) {
      const child = start(receive, ["pipe", "ignore", "inherit"]);
      const input = child.stdin;
      if (!input) throw new Error("no pipe");
      for await (const chunk of stream) if (!input.write(chunk)) await once(input, "drain");
      input.end();
      await ended(child);
      return SNAPSHOT;
    },
  };
  return known as Storage;
}
