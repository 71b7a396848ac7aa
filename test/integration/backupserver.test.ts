// A backup server in a process of its own that is killed in the middle of a stream. Its storage is files of this test's: holds that outlive the process, and a stream
// that takes its time. What is tried is the server and the receiver.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { backupClient } from "../../src/backup/client.ts";
import { receiveSnapshot } from "../../src/backup/receive.ts";
import { peerCredential } from "../../src/peers/credential.ts";
import type { Snapshot, Storage } from "../../src/storage/port.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import { realCrypto } from "../../src/world/real/crypto.ts";
import { realTransport } from "../../src/world/real/transport.ts";
import { quietLog } from "../support/backup.ts";
import { freePorts } from "../support/ports.ts";
import { currentRuntime } from "../support/runtime.ts";

const PIECE = 50_000;
const PIECES = 200;

/** Piece `i` is all `i`, every few milliseconds; the token of a receiver is the number of the next one. */
const PROGRAM = `
const [runtime, folder, config] = process.argv.slice(1);
const { readdirSync, rmSync, writeFileSync } = await import("node:fs");
const { runBackupServer } = await import(runtime + "/dist/src/main/run-backupserver.js");
const { realWorld } = await import(runtime + "/dist/src/world/real/world.js");
const holds = folder + "/holds";
const storage = {
  description: "files of a test",
  space: async () => ({ used: 40, free: 60 }),
  capabilities: async () => ({ atomic: true, shared: true, incremental: true, resume: true, format: "zfs" }),
  snapshots: async () => [{ dataset: "d", name: "s1", guid: "g1", createdWallMs: 0, properties: {}, holds: readdirSync(holds) }],
  hold: async (_, tag) => writeFileSync(holds + "/" + tag, ""),
  release: async (_, tag) => rmSync(holds + "/" + tag, { force: true }),
  estimate: async () => ${PIECE * PIECES},
  async *send({ resumeToken, signal }) {
    for (let i = Number(resumeToken ?? 0); i < ${PIECES}; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      signal.throwIfAborted();
      yield Buffer.alloc(${PIECE}, i);
    }
  },
};
await runBackupServer(JSON.parse(config), storage, realWorld({ name: "backupserver", level: "warn" }));
`;

let folder: string;
let children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-backupserver-"));
  mkdirSync(join(folder, "holds"));
  writeFileSync(join(folder, "password"), "secret\n", { mode: 0o600 });
});

afterEach(async () => {
  for (const child of children) await kill(child);
  children = [];
  rmSync(folder, { recursive: true, force: true });
});

const holds = () => readdirSync(join(folder, "holds"));

function start(port: number): ChildProcess {
  const config = {
    dataset: "d",
    host: "127.0.0.1",
    port,
    sitter: { host: "127.0.0.1", port: 1 },
    credentialFile: join(folder, "password"),
    sendingMax: 1,
    waitingMax: 1,
    stallLimitMs: 30_000,
    openToAll: false,
  };
  const args = [currentRuntime().folder, folder, JSON.stringify(config)];
  const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  children.push(child);
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

function clientOf(port: number) {
  return backupClient({
    host: "127.0.0.1",
    port,
    credential: peerCredential({
      secret: () => Promise.resolve("secret"),
      crypto: realCrypto,
      clock: realClock,
      random: realRandom,
    }),
    transport: realTransport,
    crypto: realCrypto,
    clock: realClock,
    timers: realTimers,
  });
}

/** Keeps whole pieces of what was cut short. */
function receiver() {
  let kept: Buffer = Buffer.alloc(0);
  let whole = false;
  const storage: Partial<Storage> = {
    space: () => Promise.resolve({ used: 40, free: 60 }),
    capabilities: () => Promise.resolve({ atomic: true, shared: true, incremental: true, resume: true, format: "zfs" }),
    resumeToken: () => Promise.resolve(kept.length > 0 ? String(kept.length / PIECE) : undefined),
    abandonReceive: () => Promise.resolve(void (kept = Buffer.alloc(0))),
    async receive({ stream }) {
      try {
        for await (const chunk of stream) kept = Buffer.concat([kept, chunk]);
      } catch (error) {
        kept = kept.subarray(0, kept.length - (kept.length % PIECE));
        throw error;
      }
      whole = true;
      return { dataset: "new", name: "s1", guid: "g1" } as Snapshot;
    },
  };
  return { storage: storage as Storage, isWhole: () => whole, content: () => kept };
}

it("a backup server that is killed in the middle of a stream is gone on from, and what it held is released", async () => {
  const port = await freePorts(1);
  const client = clientOf(port);
  const signal = new AbortController().signal;
  const first = start(port);
  await vi.waitFor(() => client.list({ signal }), { timeout: 30_000, interval: 100 });
  const there = receiver();
  let killing: Promise<void> | undefined;
  let heldByTheDead: string[] = [];
  const positions: number[] = [];
  await receiveSnapshot({
    client,
    storage: there.storage,
    dataset: "new",
    snapshot: { name: "s1", guid: "g1" },
    signal,
    timers: realTimers,
    log: quietLog,
    onProgress: ({ done }) => {
      positions.push(done);
      if (done < (PIECE * PIECES) / 4) return;
      killing ??= kill(first).then(() => {
        expect(there.isWhole()).toBe(false);
        heldByTheDead = holds();
        start(port);
      });
    },
  });
  await killing;
  expect(heldByTheDead).toHaveLength(1);
  expect(there.content().equals(Buffer.concat(Array.from({ length: PIECES }, (_, i) => Buffer.alloc(PIECE, i))))).toBe(
    true,
  );
  // It went on, rather than began anew.
  expect(Math.max(...positions)).toBe(PIECE * PIECES);
  await vi.waitFor(() => expect(holds()).toEqual([]), { timeout: 30_000 });
});
