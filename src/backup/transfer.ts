// One stream to one receiver: waits for its turn, holds the snapshots it needs for as long as it sends, counts, and ends in one of two ways, whatever happens.

import { explainError, howToLog } from "../base/errors.ts";
import { leftMsOf } from "../base/progress.ts";
import type { Ms } from "../base/units.ts";
import type { Snapshot, Storage } from "../storage/port.ts";
import type { Clock, Log } from "../world/port.ts";
import type { Pace } from "./pace.ts";
import type { Place } from "./queue.ts";
import type { TransferView } from "./wire.ts";

export interface TransferOptions {
  readonly uuid: string;
  readonly kind: "pull" | "push";
  readonly client: string;
  readonly snapshot: Snapshot;
  readonly from: Snapshot | undefined;
  readonly resumeToken: string | undefined;
  readonly place: Place;
  readonly pace: Pace;
  readonly holdTag: string;
  readonly storage: Storage;
  readonly clock: Clock;
  readonly log: Log;
}

export class Transfer {
  readonly options: TransferOptions;
  readonly #cancel = new AbortController();
  #state: TransferView["state"] = "queued";
  #sentBytes = 0;
  #expectedBytes: number | undefined;
  #startedMs: Ms;
  #endedMs: Ms | undefined;
  #error: string | undefined;
  #preparing: Promise<void> | undefined;
  #ending: Promise<void> | undefined;

  constructor(options: TransferOptions) {
    this.options = options;
    this.#startedMs = options.clock.now();
  }

  get signal(): AbortSignal {
    return this.#cancel.signal;
  }

  get expectedBytes(): number | undefined {
    return this.#expectedBytes;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  get state(): TransferView["state"] {
    return this.#state;
  }

  position(): number {
    return this.options.place.position();
  }

  /** Ends what is under way; `stream` and `ready` then throw the reason. */
  cancel(reason: unknown): void {
    this.#cancel.abort(reason);
  }

  /** Its turn has come, the snapshots are held, and the size is known where it can be. Rejects where it is cancelled; then, too, `end` is to be called. */
  ready(): Promise<void> {
    this.#preparing = this.#prepare();
    return this.#preparing;
  }

  async #prepare(): Promise<void> {
    const { place, storage, snapshot, from, holdTag, resumeToken } = this.options;
    await unlessAborted(place.turn, this.signal);
    await storage.hold(snapshot, holdTag);
    if (from) await storage.hold(from, holdTag);
    // What is left of a stream that is resumed stands in the token alone.
    this.#expectedBytes = resumeToken === undefined ? await storage.estimate(snapshot, from) : undefined;
    this.signal.throwIfAborted();
    this.#startedMs = this.options.clock.now();
    this.#state = "sending";
  }

  /** The storage's stream, after `ready`. */
  async *stream(): AsyncGenerator<Uint8Array> {
    const { storage, snapshot, from, resumeToken, pace } = this.options;
    const stream = storage.send({
      snapshot,
      signal: this.signal,
      ...(from ? { from } : {}),
      ...(resumeToken === undefined ? {} : { resumeToken }),
    });
    try {
      for await (const chunk of stream) {
        await pace(chunk.length);
        this.signal.throwIfAborted();
        yield chunk;
        this.#sentBytes += chunk.length;
      }
    } catch (error) {
      // What a storage says that was interrupted is not the reason.
      this.signal.throwIfAborted();
      throw error;
    }
    // One that ends quietly when it is interrupted must not look like the end of the stream.
    this.signal.throwIfAborted();
  }

  /** `error` undefined: all was sent. Resolves when what was held is released; never rejects. The first call counts. */
  end(error?: unknown): Promise<void> {
    this.#ending ??= this.#end(error);
    return this.#ending;
  }

  async #end(error: unknown): Promise<void> {
    const { clock, log, snapshot, from, place, uuid, client, kind } = this.options;
    this.#endedMs = clock.now();
    this.#state = error === undefined ? "done" : "failed";
    this.#error = error === undefined ? undefined : explainError(error);
    const fields = {
      transfer: uuid,
      kind,
      client,
      snapshot: snapshot.name,
      from: from?.name,
      sentBytes: this.#sentBytes,
    };
    if (error === undefined) log.info("transfer done", { ...fields, elapsedMs: Math.round(this.#elapsedMs()) });
    else log.warn("transfer failed", { ...fields, ...howToLog(error).known, error: this.#error });
    this.cancel(error);
    // A hold that is under way would outlive its release.
    await this.#preparing?.catch(() => undefined);
    await this.#release();
    place.leave();
  }

  async #release(): Promise<void> {
    const { storage, snapshot, from, holdTag, log } = this.options;
    for (const held of from ? [snapshot, from] : [snapshot])
      await storage.release(held, holdTag).catch((cause: unknown) =>
        // At the next start, whatever bears our tag is released.
        log.warn("snapshot stays held until the backup server starts again", {
          snapshot: held.name,
          tag: holdTag,
          error: explainError(cause),
        }),
      );
  }

  view(): TransferView {
    const { uuid, kind, client, snapshot, from } = this.options;
    const elapsedMs = Math.round(this.#elapsedMs());
    const left = leftMsOf({ done: this.#sentBytes, expected: this.#expectedBytes, elapsedMs });
    return {
      uuid,
      kind,
      client,
      snapshot: snapshot.name,
      from: from?.name ?? null,
      state: this.#state,
      position: this.position(),
      sentBytes: this.#sentBytes,
      expectedBytes: this.#expectedBytes ?? null,
      elapsedMs,
      leftMs: this.#state === "done" ? 0 : this.#state === "sending" && left !== undefined ? Math.round(left) : null,
      error: this.#error ?? null,
    };
  }

  #elapsedMs(): Ms {
    return (this.#endedMs ?? this.options.clock.now()) - this.#startedMs;
  }
}

/** Rejects as soon as the signal aborts, whatever becomes of the promise. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
