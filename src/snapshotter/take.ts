// Takes a snapshot. Its position is bounded from above: the sitter is asked where the WAL ends after the snapshot was made, by a look that began after it.
// It says something of the snapshot only if the server ran before on the same incarnation: a rewind or a copy in between has put other content there.

import { explainError, ManateeError } from "../base/errors.ts";
import { parseLsn } from "../base/lsn.ts";
import type { Ms } from "../base/units.ts";
import { encodeFacts, WHY_PROPERTY } from "../snapshots/facts.ts";
import type { DatasetName, Properties, Snapshot, Storage } from "../storage/port.ts";
import type { Clock, Log, Timers } from "../world/port.ts";
import type { LocalSitter, WalPosition } from "./local-sitter.ts";

const ASK_EVERY_MS: Ms = 250;
/** A sitter looks once a second, and after a restart within a few. */
const ASK_LIMIT_MS: Ms = 30_000;
/** Names are milliseconds: of two in one, or under a clock that went back, one gives way. */
const NAMES_TRIED = 100;

export interface TakeOptions {
  readonly storage: Storage;
  readonly dataset: DatasetName;
  readonly sitter: LocalSitter;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/**
 * Takes one snapshot at a time; all who ask while one is being made share the next one.
 * The function rejects with `SNAPSHOT_NOT_ATOMIC`, `SNAPSHOT_SITTER_SILENT`, and what the storage throws.
 */
export function snapshotTaker(options: TakeOptions): () => Promise<Snapshot> {
  let current: Promise<unknown> = Promise.resolve();
  let next: Promise<Snapshot> | undefined;
  return () => {
    next ??= current.then(() => {
      const taking = takeSnapshot(options, { why: "on demand", positionNeeded: true });
      // Who asks from now on asks for one that begins later.
      next = undefined;
      current = taking.catch(() => undefined);
      return taking;
    });
    return next;
  };
}

/**
 * `positionNeeded`: one that serves no rejoin and seeds nobody is not wanted, and goes again. Otherwise it stays, for an operator.
 * @throws `SNAPSHOT_NOT_ATOMIC`, `SNAPSHOT_SITTER_SILENT` (where the position is needed), what the storage throws
 */
export async function takeSnapshot(
  options: TakeOptions,
  { why, positionNeeded }: { why: string; positionNeeded: boolean },
): Promise<Snapshot> {
  const { storage, dataset, sitter, clock, log } = options;
  if (!(await storage.capabilities()).atomic) throw notAtomic(dataset, storage.description);
  const before = await sitter.walPosition().catch((error: unknown) => {
    // Before there is anything to clean up.
    if (positionNeeded) throw error;
    return undefined;
  });
  if (positionNeeded && before?.incarnation === undefined) throw positionUnknown();
  const snapshot = await make(options, why);
  const madeWallMs = clock.wall();
  try {
    if (before?.incarnation === undefined) throw positionUnknown();
    const after = await positionAfter(options, madeWallMs);
    if (after.incarnation !== before.incarnation) throw positionUnknown();
    const properties = propertiesOf(after, why);
    await storage.setProperties(snapshot, properties);
    log.info("snapshot taken", { snapshot: snapshot.name, tookMs: Math.round(clock.wall() - madeWallMs), properties });
    return { ...snapshot, properties };
  } catch (error) {
    if (positionNeeded) {
      await storage.destroySnapshot(snapshot).catch(() => undefined);
      throw error;
    }
    log.warn("snapshot taken, but its position is not known: it seeds nobody, and serves no rejoin", {
      snapshot: snapshot.name,
      why,
      error: explainError(error),
    });
    return snapshot;
  }
}

async function make({ storage, dataset, clock }: TakeOptions, why: string): Promise<Snapshot> {
  const name = Math.round(clock.wall());
  for (let tried = 0; ; tried++)
    try {
      return await storage.snapshot({ dataset, name: String(name + tried), properties: { [WHY_PROPERTY]: why } });
    } catch (error) {
      if (!(error instanceof ManateeError) || error.code !== "STORAGE_EXISTS" || tried >= NAMES_TRIED) throw error;
    }
}

function propertiesOf(position: WalPosition, why: string): Properties {
  const lsn = parseLsn(position.walEnd);
  const { timeline, systemIdentifier, role, generation } = position;
  if (lsn === undefined || systemIdentifier === undefined) throw positionUnknown();
  return encodeFacts({ timeline, lsn, systemIdentifier, role, generation, why });
}

async function positionAfter({ sitter, clock, timers }: TakeOptions, wallMs: number): Promise<WalPosition> {
  const limit = clock.now() + ASK_LIMIT_MS;
  let ended: number | undefined;
  for (;;) {
    const position = await sitter.walPosition();
    // A sitter tells when its look ended. The first that ended after the snapshot may have begun before it; the next one has not.
    if (position && ended !== undefined && position.lookedWallMs > ended) return position;
    if (position && ended === undefined && position.lookedWallMs > wallMs) ended = position.lookedWallMs;
    if (clock.now() >= limit) throw positionUnknown();
    await new Promise<void>((resolve) => void timers.after(ASK_EVERY_MS, resolve));
  }
}

function notAtomic(dataset: DatasetName, storage: string): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_NOT_ATOMIC",
    message: `${dataset} lies on storage (${storage}) whose snapshots do not show one instant, so that none can be taken of a running server`,
    remedy: "operator",
    hint: "Nothing needs to be done: peers are copied by base backup instead.",
  });
}

function positionUnknown(): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_SITTER_SILENT",
    message:
      "the sitter on this machine did not say, of one and the same data before and after the snapshot, where PostgreSQL's WAL ends, so that its position is not known",
    remedy: "retry",
    hint: "See whether the sitter and PostgreSQL run on this machine, and the sitter's log.",
  });
}
