// All transfers of this server: those under way, those that wait, and the last ones that ended, for whoever asks.

import { ManateeError } from "../base/errors.ts";
import type { DatasetName, Snapshot, Storage } from "../storage/port.ts";
import type { Clock, Log, Random, Timers } from "../world/port.ts";
import { paceOf, type Pace } from "./pace.ts";
import { type QueueBounds, TransferQueue } from "./queue.ts";
import { Transfer } from "./transfer.ts";
import type { TransferView } from "./wire.ts";

/** Ended transfers that are still told. */
const ENDED_KEPT = 100;

export interface TransfersOptions {
  readonly storage: Storage;
  readonly dataset: DatasetName;
  /** Of the tags by which this server holds snapshots; no other one's. */
  readonly holdPrefix: string;
  readonly bounds: QueueBounds;
  /** undefined: no limit. */
  readonly bytesPerSecondMax: number | undefined;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

export interface TransferRequest {
  readonly kind: "pull" | "push";
  readonly client: string;
  readonly snapshot: Snapshot;
  readonly from?: Snapshot | undefined;
  readonly resumeToken?: string | undefined;
}

export class Transfers {
  readonly #options: TransfersOptions;
  readonly #queue: TransferQueue;
  readonly #pace: Pace;
  /** In the order in which they were asked for. */
  readonly #transfers = new Map<string, Transfer>();

  constructor(options: TransfersOptions) {
    this.#options = options;
    this.#queue = new TransferQueue(options.bounds);
    this.#pace = paceOf(options.bytesPerSecondMax, options);
  }

  /** Releases what a former run of this server still holds. */
  async releaseStale(): Promise<void> {
    const { storage, dataset, holdPrefix, log } = this.#options;
    for (const snapshot of await storage.snapshots(dataset))
      for (const tag of snapshot.holds) {
        if (!tag.startsWith(holdPrefix) || this.#transfers.has(tag.slice(holdPrefix.length))) continue;
        await storage.release(snapshot, tag);
        log.info("released a snapshot that a former run held", { snapshot: snapshot.name, tag });
      }
  }

  /** @throws `BACKUP_QUEUE_FULL` */
  enter(request: TransferRequest): Transfer {
    const { storage, holdPrefix, clock, log, random } = this.#options;
    const place = this.#queue.enter(request.client);
    const uuid = uuidOf(random.hex(16));
    const transfer = new Transfer({
      ...request,
      from: request.from,
      resumeToken: request.resumeToken,
      uuid,
      place,
      pace: this.#pace,
      holdTag: `${holdPrefix}${uuid}`,
      storage,
      clock,
      log,
    });
    this.#transfers.set(uuid, transfer);
    this.#forget();
    log.info("transfer asked for", {
      transfer: uuid,
      kind: request.kind,
      client: request.client,
      snapshot: request.snapshot.name,
      from: request.from?.name,
      position: transfer.position(),
    });
    return transfer;
  }

  find(uuid: string): Transfer | undefined {
    return this.#transfers.get(uuid);
  }

  counts(): ReturnType<TransferQueue["counts"]> {
    return this.#queue.counts();
  }

  views(): TransferView[] {
    const rank = { sending: 0, queued: 1, done: 2, failed: 2 };
    return [...this.#transfers.values()]
      .map((transfer) => transfer.view())
      .sort((a, b) => rank[a.state] - rank[b.state] || a.position - b.position);
  }

  /** Ends all of them, and resolves when what they held is released. */
  async stop(): Promise<void> {
    const reason = new ManateeError({
      code: "BACKUP_STOPPING",
      message: "the backup server stops",
      remedy: "retry",
      hint: "Ask again when it runs again, or ask another peer.",
    });
    const open = [...this.#transfers.values()].filter(({ state }) => state === "queued" || state === "sending");
    for (const transfer of open) transfer.cancel(reason);
    await Promise.all(open.map((transfer) => transfer.end(reason)));
  }

  #forget(): void {
    const ended = [...this.#transfers].filter(([, { state }]) => state === "done" || state === "failed");
    for (const [uuid] of ended.slice(0, Math.max(0, ended.length - ENDED_KEPT))) this.#transfers.delete(uuid);
  }
}

/** RFC 9562, version 4, of 16 random bytes. */
function uuidOf(hex: string): string {
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16);
  return [hex.slice(0, 8), hex.slice(8, 12), `4${hex.slice(13, 16)}`, variant + hex.slice(17, 20), hex.slice(20)].join(
    "-",
  );
}
