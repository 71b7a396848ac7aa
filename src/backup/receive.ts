// Puts a peer's snapshot into the own storage: fetches, goes on where it broke off if the storage can and anew if not, and believes at the end only what the storage
// itself says to have received.

import { explainError, ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { DatasetName, Snapshot, Storage } from "../storage/port.ts";
import type { Log, Timers } from "../world/port.ts";
import type { BackupClient } from "./client.ts";
import type { TransferProgress } from "./progress.ts";

/** Tries in a row that brought nothing. */
const TRIES_MAX = 5;
const PAUSE_FIRST_MS: Ms = 1_000;
const PAUSE_MAX_MS: Ms = 30_000;

export interface ReceiveOptions {
  readonly client: BackupClient;
  readonly storage: Storage;
  /**
   * Where it is received. Without `from`: a name that nothing has, and that is used for this one snapshot only, since what a former try left under it is gone on with.
   * With `from`: the dataset whose newest snapshot that is.
   */
  readonly dataset: DatasetName;
  readonly snapshot: { readonly name: string; readonly guid: string };
  readonly from?: { readonly name: string; readonly guid: string };
  /** An abort rejects with its reason; what was received stays, to go on from, where the storage can. Otherwise `storage.abandonReceive` throws it away. */
  readonly signal: AbortSignal;
  /** `done` of all tries together. */
  readonly onProgress?: (progress: TransferProgress) => void;
  readonly timers: Timers;
  readonly log: Log;
  readonly pauseFirstMs?: Ms;
}

/**
 * Resolves when the snapshot is there, durable, and the one that was asked for. Otherwise nothing is left behind.
 * @throws what the client and the storage throw; `BACKUP_OTHER_STREAM`
 */
export async function receiveSnapshot(options: ReceiveOptions): Promise<Snapshot> {
  const { storage, dataset, signal, log } = options;
  const { resume } = await storage.capabilities();
  let doneBefore = 0;
  let pauseMs = options.pauseFirstMs ?? PAUSE_FIRST_MS;
  for (let tries = 1; ; tries++) {
    let done = 0;
    const resumeToken = resume ? await storage.resumeToken(dataset) : undefined;
    try {
      return await receiveOnce(options, {
        resumable: resume,
        resumeToken,
        doneBefore,
        onDone: (bytes) => (done = bytes),
      });
    } catch (error) {
      signal.throwIfAborted();
      // A token that the sender no longer takes must not stand in the way of a start from the beginning.
      const badToken =
        resumeToken !== undefined && done === 0 && error instanceof ManateeError && error.code.startsWith("STORAGE_");
      if (badToken) await storage.abandonReceive(dataset);
      const again = badToken || (error instanceof ManateeError && error.remedy === "retry");
      if (done > 0) {
        tries = 0;
        pauseMs = options.pauseFirstMs ?? PAUSE_FIRST_MS;
      }
      if (!again || tries >= TRIES_MAX) {
        await storage.abandonReceive(dataset);
        throw error;
      }
      if (resume) doneBefore += done;
      log.warn("receiving a snapshot broke off", {
        dataset,
        snapshot: options.snapshot.name,
        doneBytes: done,
        againInMs: pauseMs,
        error: explainError(error),
      });
      await pause(options.timers, pauseMs, signal);
      pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS);
    }
  }
}

interface Try {
  readonly resumable: boolean;
  readonly resumeToken: string | undefined;
  readonly doneBefore: number;
  readonly onDone: (bytes: number) => void;
}

async function receiveOnce(options: ReceiveOptions, one: Try): Promise<Snapshot> {
  const { client, storage, dataset, snapshot, from, signal, onProgress } = options;
  let broken: unknown;
  async function* stream(): AsyncGenerator<Uint8Array> {
    try {
      yield* client.fetch({
        snapshot,
        from,
        resumeToken: one.resumeToken,
        signal,
        onProgress: (progress) => {
          one.onDone(progress.done);
          onProgress?.({ ...progress, done: one.doneBefore + progress.done });
        },
      });
    } catch (error) {
      broken = error;
      throw error;
    }
  }
  let received: Snapshot;
  try {
    received = await storage.receive({ dataset, stream: stream(), signal, resumable: one.resumable });
  } catch (error) {
    // What the storage says of a stream that was cut short is not the reason.
    throw broken ?? error;
  }
  if (received.guid === snapshot.guid) return received;
  if (from) await storage.destroySnapshot(received);
  else await storage.destroyDataset(dataset);
  throw new ManateeError({
    code: "BACKUP_OTHER_STREAM",
    message: `the storage received ${received.name} (${received.guid}) instead of ${snapshot.name} (${snapshot.guid})`,
    remedy: "reobserve",
    hint: "Ask for the list of snapshots again: one of that name was destroyed and another one made.",
  });
}

function pause(timers: Timers, delayMs: Ms, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      cancel();
      reject(signal.reason as Error);
    };
    const cancel = timers.after(delayMs, () => {
      signal.removeEventListener("abort", abort);
      resolve();
    });
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
  });
}
