import { afterEach, describe, expect, it } from "vitest";
import type { TransferProgress } from "../../src/backup/progress.ts";
import { receiveSnapshot } from "../../src/backup/receive.ts";
import { ManateeError } from "../../src/base/errors.ts";
import type { Snapshot, Storage } from "../../src/storage/port.ts";
import { realTimers } from "../../src/world/real/clock.ts";
import { type BackupFixture, quietLog, startBackupServer } from "../support/backup.ts";
import { fakeStorage } from "./fake-storage.ts";

const PIECE = 100_000;
const PIECES = 20;
const TARGET = "tank/new";

const open: BackupFixture[] = [];

afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

/** Piece `i` is all `i`. Breaks off before the pieces that are named, once each. */
async function senderThatBreaks({
  before = [] as number[],
  tokens = true,
} = {}): Promise<{ server: BackupFixture; begins: number[] }> {
  const breaks = new Set(before);
  const begins: number[] = [];
  const storage = fakeStorage({
    s1: async function* ({ resumeToken }) {
      if (resumeToken !== undefined && !tokens) throw failed("STORAGE_BAD_STREAM", "that token is of no use");
      const first = Number(resumeToken ?? 0);
      begins.push(first);
      for (let i = first; i < PIECES; i++) {
        if (breaks.delete(i)) throw failed("STORAGE_BUSY", "for a moment");
        yield new Uint8Array(PIECE).fill(i);
      }
    },
  });
  const server = await startBackupServer({ storage });
  open.push(server);
  return { server, begins };
}

function failed(code: string, message: string): ManateeError {
  return new ManateeError({ code, message, remedy: code === "STORAGE_NO_SPACE" ? "operator" : "retry", hint: "wait" });
}

/** Keeps whole pieces of what was cut short, where it can resume; otherwise nothing. */
function receiver({ resume = true, fullAt = Infinity, guid = "guid-s1" } = {}) {
  let content: Buffer | undefined;
  let partial: Buffer = Buffer.alloc(0);
  const storage: Partial<Storage> = {
    capabilities: () => Promise.resolve({ atomic: true, shared: true, incremental: true, resume, format: "zfs" }),
    resumeToken: () => Promise.resolve(partial.length > 0 ? String(partial.length / PIECE) : undefined),
    abandonReceive: () => Promise.resolve(void (partial = Buffer.alloc(0))),
    destroyDataset: () => Promise.resolve(void (content = undefined)),
    async receive({ stream, resumable }) {
      let all = partial;
      try {
        for await (const chunk of stream) {
          if (all.length + chunk.length > fullAt) throw failed("STORAGE_NO_SPACE", "the disk is full");
          all = Buffer.concat([all, chunk]);
        }
      } catch (error) {
        partial = resumable ? all.subarray(0, all.length - (all.length % PIECE)) : Buffer.alloc(0);
        throw error instanceof ManateeError && error.code === "STORAGE_NO_SPACE"
          ? error
          : failed("STORAGE_BAD_STREAM", "incomplete stream");
      }
      content = all;
      partial = Buffer.alloc(0);
      return { dataset: TARGET, name: "s1", guid } as Snapshot;
    },
  };
  return {
    storage: storage as Storage,
    isWhole: () =>
      content?.equals(Buffer.concat(Array.from({ length: PIECES }, (_, i) => Buffer.alloc(PIECE, i)))) ?? false,
    isEmpty: () => content === undefined && partial.length === 0,
    partialBytes: () => partial.length,
  };
}

function receive(
  server: BackupFixture,
  { storage }: { storage: Storage },
  more: { signal?: AbortSignal; onProgress?: (p: TransferProgress) => void } = {},
) {
  return receiveSnapshot({
    client: server.client(),
    storage,
    dataset: TARGET,
    snapshot: { name: "s1", guid: "guid-s1" },
    signal: new AbortController().signal,
    timers: realTimers,
    log: quietLog,
    pauseFirstMs: 1,
    ...more,
  });
}

describe("receiving a snapshot", () => {
  it("goes on where it broke off, where the storage can", async () => {
    const { server, begins } = await senderThatBreaks({ before: [7, 13] });
    const there = receiver();
    const done: number[] = [];
    expect(await receive(server, there, { onProgress: (progress) => done.push(progress.done) })).toMatchObject({
      guid: "guid-s1",
    });
    expect(there.isWhole()).toBe(true);
    expect(begins).toEqual([0, 7, 13]);
    expect(done.at(-1)).toBe(PIECES * PIECE);
  });

  it("begins anew, where the storage can't", async () => {
    const { server, begins } = await senderThatBreaks({ before: [7, 13] });
    const there = receiver({ resume: false });
    await receive(server, there);
    expect(there.isWhole()).toBe(true);
    expect(begins).toEqual([0, 0, 0]);
  });

  it("begins anew where the sender can do nothing with the token", async () => {
    const { server, begins } = await senderThatBreaks({ before: [7], tokens: false });
    const there = receiver();
    await receive(server, there);
    expect(there.isWhole()).toBe(true);
    expect(begins).toEqual([0, 0]);
  });

  it("leaves nothing where the disk is full, and says so", async () => {
    const { server, begins } = await senderThatBreaks();
    const there = receiver({ fullAt: 5 * PIECE });
    await expect(receive(server, there)).rejects.toMatchObject({ code: "STORAGE_NO_SPACE" });
    expect(there.isEmpty()).toBe(true);
    expect(begins).toEqual([0]);
  });

  it("gives up after tries that bring nothing, and leaves nothing", async () => {
    const { server } = await senderThatBreaks();
    const { storage, isEmpty } = receiver();
    const client = server.client();
    await open.pop()?.close();
    const trying = receiveSnapshot({
      client,
      storage,
      dataset: TARGET,
      snapshot: { name: "s1", guid: "guid-s1" },
      signal: new AbortController().signal,
      timers: realTimers,
      log: quietLog,
      pauseFirstMs: 1,
    });
    await expect(trying).rejects.toMatchObject({ code: "BACKUP_UNREACHABLE" });
    expect(isEmpty()).toBe(true);
  });

  it("ends by the signal, with the signal's reason, and keeps what can be gone on from", async () => {
    const { server } = await senderThatBreaks();
    const there = receiver();
    const cancel = new AbortController();
    const onProgress = ({ done }: TransferProgress) => {
      if (done >= 5 * PIECE) cancel.abort(new Error("the sitter stops"));
    };
    await expect(receive(server, there, { signal: cancel.signal, onProgress })).rejects.toThrow("the sitter stops");
    expect(there.isWhole()).toBe(false);
    await receive(server, there);
    expect(there.isWhole()).toBe(true);
  });

  it("does not keep what the storage says to be another snapshot", async () => {
    const { server } = await senderThatBreaks();
    const there = receiver({ guid: "another" });
    await expect(receive(server, there)).rejects.toMatchObject({ code: "BACKUP_OTHER_STREAM", remedy: "reobserve" });
    expect(there.isEmpty()).toBe(true);
  });
});
