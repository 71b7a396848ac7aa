// The snapshotter: takes snapshots in their time and at each change of role, removes those whose time is over, and has the newest one verified. Whatever fails is told,
// and tried again; nothing here is waited for by anybody.

import { explainError, ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { SnapshotterConfig } from "../config/snapshotter.ts";
import { isGood } from "../snapshots/choice.ts";
import { encodeRefusal, encodeVerdict, verdictOf } from "../snapshots/facts.ts";
import { isOurs, judgeRetention, nextToThin } from "../snapshots/retention.ts";
import type { Snapshot, Storage } from "../storage/port.ts";
import type { Clock, Log, Timers } from "../world/port.ts";
import type { LocalSitter, ShardPlace } from "./local-sitter.ts";
import { takeSnapshot } from "./take.ts";

const TICK_MS: Ms = 1_000;
/** Removing what is superfluous, and space, without a new snapshot: others write on the same disk. */
const TIDY_EVERY_MS: Ms = 60_000;
/** A failure that lasts is told again after that. */
const REPEAT_MS: Ms = 60_000;
/** Removed in one go: a long list must not keep the next snapshot waiting. */
const REMOVED_AT_ONCE = 20;

/** Starts a clone of the snapshot's content that lies in that folder. Resolves with what was checked, or what is wrong; rejects where it could not be found out. */
export type Verify = (
  folder: string,
  signal: AbortSignal,
) => Promise<{ readonly passed: boolean; readonly text: string }>;

export interface SnapshotterOptions {
  readonly config: SnapshotterConfig;
  readonly storage: Storage;
  readonly sitter: LocalSitter;
  /** undefined: none is verified. */
  readonly verify: Verify | undefined;
  /** Ends what a verification that was killed has left running on that folder. */
  readonly endLeftovers: (folder: string) => Promise<void>;
  /** Ends clones that operators asked for and whose time is over. `nextWallMs`: when the next one's is. */
  readonly endClones: () => Promise<{ readonly ended: readonly string[]; readonly nextWallMs: Ms | undefined }>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** The clone that is verified, beside the dataset. */
function verifiedClone(dataset: string): string {
  return `${dataset}-verify`;
}

export class Snapshotter {
  readonly #options: SnapshotterOptions;
  readonly #stop = new AbortController();
  #wake: () => void = () => {};
  #place: ShardPlace | undefined;
  /** Why one is to be taken beside the regular ones. */
  #wanted: string | undefined;
  /** Of the last one taken here, or found at the start. */
  #takenAt: Ms | undefined;
  #tidyAt: Ms = Number.NEGATIVE_INFINITY;
  #clonesAt: Ms = Number.NEGATIVE_INFINITY;
  #verifyAt: Ms | undefined;
  #verifying: Promise<void> | undefined;
  #isShort = false;
  readonly #told = new Map<string, { readonly reason: string; readonly at: Ms }>();

  constructor(options: SnapshotterOptions) {
    this.#options = options;
  }

  /** One more snapshot, as soon as it can be. */
  request(why: string): void {
    this.#wanted ??= why;
  }

  /** Until {@link stop}. Never rejects. */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.tick();
      if (!this.#stop.signal.aborted) await this.#untilNextTick();
    }
  }

  #untilNextTick(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.timers.after(TICK_MS, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** A verification under way ends, and its clone goes. */
  async stop(): Promise<void> {
    this.#stop.abort(new Error("the snapshotter stops"));
    this.#wake();
    await this.#verifying;
  }

  /** One look. */
  async tick(): Promise<void> {
    await this.#attempt("look at the sitter", () => this.#notePlace());
    await this.#attempt("take a snapshot", () => this.#takeIfDue());
    await this.#attempt("end clones", () => this.#endClonesIfDue());
    await this.#attempt("tidy up", () => this.#tidyIfDue());
    if (this.#verifying) return;
    this.#verifying = this.#attempt("verify a snapshot", () => this.#verifyIfDue()).finally(
      () => (this.#verifying = undefined),
    );
  }

  async #notePlace(): Promise<void> {
    const before = this.#place;
    const place = await this.#options.sitter.place();
    this.#place = place ?? before;
    if (!before || !place || (before.role === place.role && before.generation === place.generation)) return;
    this.request(`role: ${before.role} to ${place.role}, generation ${place.generation}`);
  }

  // --- taking

  async #takeIfDue(): Promise<void> {
    const { clock, log, config, storage } = this.#options;
    const why = this.#wanted ?? ((await this.#isDue()) ? "periodic" : undefined);
    if (why === undefined) return;
    if (this.#isShort) {
      if (this.#wanted !== undefined) {
        const { free } = await storage.space(config.dataset);
        log.warn("no snapshot is taken: space is short", { why, freeBytes: free });
      }
      this.#wanted = undefined;
      return;
    }
    this.#wanted = undefined;
    // Also where it fails: the next one comes in its time, and a storage that hangs is not asked each second.
    this.#takenAt = clock.now();
    this.#tidyAt = clock.now();
    await takeSnapshot({ ...this.#options, dataset: config.dataset }, { why, positionNeeded: false });
  }

  async #isDue(): Promise<boolean> {
    const { clock, config } = this.#options;
    if (this.#takenAt === undefined) {
      const newest = (await this.#ours()).at(-1);
      const age = newest === undefined ? undefined : clock.wall() - newest.createdWallMs;
      // One from the future says that a clock was wrong, and nothing of when the last one was taken.
      if (age !== undefined && age >= 0) this.#takenAt = clock.now() - age;
    }
    return this.#takenAt === undefined || clock.now() - this.#takenAt >= config.intervalMs;
  }

  async #ours(): Promise<readonly Snapshot[]> {
    const { storage, config } = this.#options;
    return (await storage.snapshots(config.dataset)).filter(isOurs);
  }

  // --- removing

  async #tidyIfDue(): Promise<void> {
    const { clock, storage, config } = this.#options;
    if (clock.now() < this.#tidyAt) return;
    this.#tidyAt = clock.now() + TIDY_EVERY_MS;
    const snapshots = await storage.snapshots(config.dataset);
    const { kept, superfluous } = judgeRetention(snapshots, config.retention, this.#place?.begin);
    for (const snapshot of superfluous.slice(0, REMOVED_AT_ONCE)) await this.#remove(snapshot, "its time is over");
    const percent = await this.#freePercent();
    this.#noteShortage(percent);
    const isScarce = percent < config.thinBelowPercent;
    const victim = isScarce && superfluous.length === 0 ? nextToThin(kept) : undefined;
    if (victim) await this.#remove(victim, `${percent} % are free`);
    // What was removed changes what is to be done next.
    if (victim || superfluous.length > REMOVED_AT_ONCE || (isScarce && superfluous.length > 0))
      this.#tidyAt = clock.now();
  }

  async #remove(snapshot: Snapshot, why: string): Promise<void> {
    const { storage, log } = this.#options;
    try {
      await storage.destroySnapshot(snapshot);
      log.info("snapshot removed", { snapshot: snapshot.name, why });
    } catch (error) {
      const code = error instanceof ManateeError ? error.code : "";
      // Somebody needs it just now, or removed it himself.
      if (!["STORAGE_HELD", "STORAGE_HAS_CLONES", "STORAGE_NO_SNAPSHOT", "STORAGE_BUSY"].includes(code)) throw error;
      log.debug("snapshot not removed", { snapshot: snapshot.name, error: explainError(error) });
    }
  }

  async #freePercent(): Promise<number> {
    const { used, free } = await this.#options.storage.space(this.#options.config.dataset);
    return used + free === 0 ? 100 : Math.floor((free * 100) / (used + free));
  }

  #noteShortage(percent: number): void {
    const { config, log } = this.#options;
    const isShort = percent < config.stopBelowPercent;
    if (isShort && !this.#isShort)
      log.error("space is short: no snapshots are taken until there is more", {
        code: "SNAPSHOT_SPACE_SHORT",
        hint: "Remove what nobody needs (forks, held snapshots), or give the pool more space.",
        freePercent: percent,
        stopBelowPercent: config.stopBelowPercent,
      });
    if (!isShort && this.#isShort) log.info("there is space again: snapshots are taken", { freePercent: percent });
    if (percent < config.thinBelowPercent) this.#tell("space", `${percent} % are free`);
    this.#isShort = isShort;
  }

  async #endClonesIfDue(): Promise<void> {
    const { clock, log, endClones } = this.#options;
    if (clock.now() < this.#clonesAt) return;
    this.#clonesAt = clock.now() + TIDY_EVERY_MS;
    const { ended, nextWallMs } = await endClones();
    for (const clone of ended) log.info("clone removed", { clone, why: "its time is over" });
    if (nextWallMs !== undefined)
      this.#clonesAt = Math.min(this.#clonesAt, clock.now() + Math.max(0, nextWallMs - clock.wall()));
  }

  // --- verifying

  async #verifyIfDue(): Promise<void> {
    const { clock, config, verify } = this.#options;
    if (!verify || !config.verification) return;
    if (this.#verifyAt === undefined) {
      await this.#removeClone();
      this.#verifyAt = clock.now() + (await this.#untilVerification(config.verification.intervalMs));
    }
    if (clock.now() < this.#verifyAt) return;
    const snapshot = (await this.#ours()).findLast((one) => isGood(one) && verdictOf(one.properties) === undefined);
    // Asking the storage starts a program: where there is nothing new, not each second.
    this.#verifyAt = clock.now() + (snapshot ? config.verification.intervalMs : TIDY_EVERY_MS);
    if (!snapshot) return;
    await this.#verify(snapshot, verify);
  }

  async #untilVerification(intervalMs: Ms): Promise<Ms> {
    const { clock } = this.#options;
    const verdict = (await this.#ours()).map(({ properties }) => verdictOf(properties)).findLast(Boolean);
    const age = verdict === undefined ? undefined : clock.wall() - verdict.wallMs;
    return age === undefined || age < 0 ? 0 : Math.max(0, intervalMs - age);
  }

  async #verify(snapshot: Snapshot, verify: Verify): Promise<void> {
    const { storage, config, clock, log } = this.#options;
    const clone = verifiedClone(config.dataset);
    const began = clock.now();
    await storage.clone(snapshot, clone);
    try {
      const { folder } = await storage.mount(clone);
      const { passed, text } = await verify(folder, this.#stop.signal);
      const verdict = { passed, wallMs: clock.wall(), text };
      await storage.setProperties(snapshot, encodeVerdict(verdict));
      const fields = { snapshot: snapshot.name, tookMs: Math.round(clock.now() - began) };
      if (passed) log.info("snapshot verified", { ...fields, checked: text });
      else
        log.error("snapshot can't be restored", {
          ...fields,
          code: "SNAPSHOT_UNSOUND",
          hint: "It is kept, and serves nobody. Look at the reason; check the peer's storage and memory, and whether another peer's data is sound.",
          reason: text,
        });
    } catch (error) {
      if (error instanceof ManateeError && error.code === "SNAPSHOT_LEADS_OUT")
        await storage.setProperties(snapshot, encodeRefusal(error.message));
      throw error;
    } finally {
      await this.#removeClone();
    }
  }

  async #removeClone(): Promise<void> {
    const { storage, config, endLeftovers } = this.#options;
    const clone = verifiedClone(config.dataset);
    const found = await storage.look(clone);
    if (!found) return;
    await endLeftovers(found.folder);
    await storage.unmount(clone);
    await storage.destroyDataset(clone);
  }

  // --- telling

  /** A dataset that is gone, a pool that is suspended: told once, then each minute, and when it is over. */
  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    const { log } = this.#options;
    try {
      await work();
      if (this.#told.delete(what)) log.info("it works again", { what });
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#tell(what, explainError(error), error);
    }
  }

  #tell(what: string, reason: string, error?: unknown): void {
    const { clock, log } = this.#options;
    const before = this.#told.get(what);
    if (before && before.reason === reason && clock.now() - before.at < REPEAT_MS) return;
    this.#told.set(what, { reason, at: clock.now() });
    const known = error instanceof ManateeError ? { code: error.code, hint: error.hint } : {};
    const level = error instanceof ManateeError && error.remedy === "operator" ? "error" : "warn";
    log[level](error === undefined ? "space runs short" : "the snapshotter can't do its work", {
      what,
      ...known,
      reason,
    });
  }
}
