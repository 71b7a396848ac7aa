// Judges what clients saw against what is there in the end. It knows nothing of how the shard works, only what it promises (I1–I4).

import {
  type Answerer,
  acknowledgements,
  type InsertOperation,
  type Operation,
  type ReadOperation,
} from "./history.ts";

/** What one peer holds after all clients have stopped and all peers are back. */
export interface FinalPeer {
  readonly peer: string;
  readonly role: string;
  readonly timeline: number;
  readonly systemIdentifier: string;
  /** The rows, by id. A row that is there twice stands here twice. */
  readonly ids: readonly number[];
  /** Of a standby: its walreceiver streams. Of the primary: true. */
  readonly streaming: boolean;
}

/** Who was primary on which timeline, by the shard's own history. */
export interface Reign {
  readonly generation: number;
  readonly primary: string;
  readonly timeline: number;
}

export interface Violation {
  readonly kind:
    | "acknowledged-write-lost"
    | "observed-value-lost"
    | "acknowledged-write-not-read"
    | "denied-write-present"
    | "row-from-nowhere"
    | "row-twice"
    | "two-acknowledged-on-one-timeline"
    | "old-primary-acknowledged"
    | "acknowledged-outside-its-reign"
    | "two-primaries-in-one-generation"
    | "peers-differ"
    | "peer-not-streaming"
    | "nothing-was-written";
  readonly message: string;
}

export interface Evidence {
  readonly operations: readonly Operation[];
  readonly finals: readonly FinalPeer[];
  /** Left out: not checked. */
  readonly reigns?: readonly Reign[];
  /** Rows that the test put there itself. */
  readonly knownIds?: readonly number[];
}

/** All that the history violates; empty if nothing. A history without one acknowledged write proves nothing, and says so. */
export function checkHistory(evidence: Evidence): readonly Violation[] {
  return [
    ...checkSomethingWritten(evidence),
    ...checkNothingLost(evidence),
    ...checkNothingInvented(evidence),
    ...checkReads(evidence),
    ...checkOneAcknowledger(evidence),
    ...checkReigns(evidence),
    ...checkPeersEqual(evidence),
  ];
}

/** Throws with all violations, at most a few of each kind. */
export function assertHistory(evidence: Evidence): void {
  const violations = checkHistory(evidence);
  if (violations.length === 0) return;
  throw new Error(`the history violates what the shard promises:\n${summarize(violations)}`);
}

function summarize(violations: readonly Violation[], perKind = 5): string {
  const kinds = [...new Set(violations.map(({ kind }) => kind))];
  return kinds
    .map((kind) => {
      const ofKind = violations.filter((violation) => violation.kind === kind);
      const lines = ofKind.slice(0, perKind).map(({ message }) => `  ${message}`);
      if (ofKind.length > perKind) lines.push(`  … and ${ofKind.length - perKind} more`);
      return [`${kind} (${ofKind.length}):`, ...lines].join("\n");
    })
    .join("\n");
}

function checkSomethingWritten({ operations, finals }: Evidence): Violation[] {
  if (acknowledgements(operations).length > 0 && finals.length > 0) return [];
  return [
    { kind: "nothing-was-written", message: "no acknowledged insert, or no peer to compare with: nothing was checked" },
  ];
}

/** I1, I2: an acknowledged write is on every peer in the end. I3: so is whatever anybody has seen. */
function checkNothingLost({ operations, finals }: Evidence): Violation[] {
  const violations: Violation[] = [];
  const observed = new Map<number, ReadOperation>();
  for (const operation of operations)
    if (operation.kind === "read" && operation.outcome === "ok")
      for (const id of operation.ids) if (!observed.has(id)) observed.set(id, operation);
  for (const final of finals) {
    const present = new Set(final.ids);
    for (const insert of acknowledgements(operations))
      if (!present.has(insert.id))
        violations.push({
          kind: "acknowledged-write-lost",
          message: `${insert.id}, acknowledged by ${name(insert.answerer)} at ${at(insert.endedAt)}, is not on ${final.peer}`,
        });
    for (const [id, read] of observed)
      if (!present.has(id))
        violations.push({
          kind: "observed-value-lost",
          message: `${id}, read by ${read.client} from ${name(read.answerer)} at ${at(read.endedAt)}, is not on ${final.peer}`,
        });
  }
  return violations;
}

/** A row was asked for, once, and not refused. */
function checkNothingInvented({ operations, finals, knownIds = [] }: Evidence): Violation[] {
  const violations: Violation[] = [];
  const inserts = new Map(operations.filter(isInsert).map((insert) => [insert.id, insert]));
  const known = new Set(knownIds);
  for (const final of finals) {
    const seen = new Set<number>();
    for (const id of final.ids) {
      if (seen.has(id)) violations.push({ kind: "row-twice", message: `${id} is there twice on ${final.peer}` });
      seen.add(id);
      const insert = inserts.get(id);
      if (insert === undefined && !known.has(id))
        violations.push({ kind: "row-from-nowhere", message: `${id} on ${final.peer} was never inserted` });
      if (insert?.outcome === "fail")
        violations.push({
          kind: "denied-write-present",
          message: `${id} is on ${final.peer}, and was refused: ${insert.error}`,
        });
    }
  }
  return violations;
}

/**
 * A read that began after a write was acknowledged sees it, if it was answered on the same timeline or a later one. (Reads on an
 * old primary that has not noticed may be stale until X1 ends them: I4.)
 */
function checkReads({ operations }: Evidence): Violation[] {
  const violations: Violation[] = [];
  const acknowledged = acknowledgements(operations);
  for (const read of operations) {
    if (read.kind !== "read" || read.outcome !== "ok" || read.answerer === undefined) continue;
    const seen = new Set(read.ids);
    for (const insert of acknowledged) {
      if (insert.endedAt >= read.invokedAt) break;
      if (insert.answerer.timeline > read.answerer.timeline || seen.has(insert.id)) continue;
      violations.push({
        kind: "acknowledged-write-not-read",
        message: `${insert.id}, acknowledged by ${name(insert.answerer)} at ${at(insert.endedAt)}, was not seen by ${read.client} on ${name(read.answerer)} at ${at(read.invokedAt)}`,
      });
    }
  }
  return violations;
}

/** I4: a timeline is written by one peer, and none acknowledges what was asked for after a later one had acknowledged. */
function checkOneAcknowledger({ operations }: Evidence): Violation[] {
  const violations: Violation[] = [];
  const writers = new Map<string, InsertOperation & { answerer: Answerer }>();
  let newest: (InsertOperation & { endedAt: number; answerer: Answerer }) | undefined;
  const acknowledged = acknowledgements(operations);
  for (const insert of acknowledged) {
    const key = `${insert.answerer.systemIdentifier} ${insert.answerer.timeline}`;
    const first = writers.get(key);
    if (first === undefined) writers.set(key, insert);
    else if (first.answerer.peer !== insert.answerer.peer)
      violations.push({
        kind: "two-acknowledged-on-one-timeline",
        message: `timeline ${insert.answerer.timeline}: ${first.id} acknowledged by ${first.answerer.peer}, ${insert.id} by ${insert.answerer.peer}`,
      });
  }
  for (const insert of [...acknowledged].sort(
    (a, b) => a.answerer.timeline - b.answerer.timeline || a.endedAt - b.endedAt,
  )) {
    if (newest === undefined || insert.answerer.timeline > newest.answerer.timeline) newest = insert;
    for (const older of acknowledged)
      if (newest === insert && older.answerer.timeline < insert.answerer.timeline && older.invokedAt > insert.endedAt)
        violations.push({
          kind: "old-primary-acknowledged",
          message: `${older.id}, asked for at ${at(older.invokedAt)}, was acknowledged by ${name(older.answerer)} after ${name(insert.answerer)} had acknowledged ${insert.id} at ${at(insert.endedAt)}`,
        });
  }
  return violations;
}

/** The shard's own history names, for each acknowledgement, its server as the primary on that timeline; and one primary a generation. */
function checkReigns({ operations, reigns }: Evidence): Violation[] {
  if (reigns === undefined) return [];
  const violations: Violation[] = [];
  for (const generation of new Set(reigns.map((reign) => reign.generation))) {
    const primaries = new Set(reigns.filter((reign) => reign.generation === generation).map(({ primary }) => primary));
    if (primaries.size > 1)
      violations.push({
        kind: "two-primaries-in-one-generation",
        message: `generation ${generation} names ${[...primaries].join(" and ")} as primary`,
      });
  }
  const allowed = new Set(reigns.map(({ primary, timeline }) => `${primary} ${timeline}`));
  const told = new Set<string>();
  for (const insert of acknowledgements(operations)) {
    const key = `${insert.answerer.peer} ${insert.answerer.timeline}`;
    if (allowed.has(key) || told.has(key)) continue;
    told.add(key);
    violations.push({
      kind: "acknowledged-outside-its-reign",
      message: `${insert.id} was acknowledged by ${name(insert.answerer)}, which no generation names as primary there`,
    });
  }
  return violations;
}

/** After everybody is back: same rows, same timeline, same system, every standby streaming. */
export function checkPeersEqual({ finals }: Evidence): Violation[] {
  const violations: Violation[] = [];
  const reference = finals.find(({ role }) => role === "primary") ?? finals[0];
  if (reference === undefined) return [];
  const differs = (final: FinalPeer, what: string) =>
    violations.push({ kind: "peers-differ", message: `${final.peer} differs from ${reference.peer}: ${what}` });
  const expected = new Set(reference.ids);
  for (const final of finals) {
    if (!final.streaming)
      violations.push({ kind: "peer-not-streaming", message: `${final.peer} (${final.role}) does not stream` });
    if (final === reference) continue;
    if (final.timeline !== reference.timeline) differs(final, `timeline ${final.timeline}, not ${reference.timeline}`);
    if (final.systemIdentifier !== reference.systemIdentifier) differs(final, `system ${final.systemIdentifier}`);
    const own = new Set(final.ids);
    const missing = [...expected].filter((id) => !own.has(id));
    const surplus = [...own].filter((id) => !expected.has(id));
    if (missing.length > 0) differs(final, `lacks ${missing.length} rows (${missing.slice(0, 5).join(", ")})`);
    if (surplus.length > 0) differs(final, `has ${surplus.length} rows more (${surplus.slice(0, 5).join(", ")})`);
  }
  return violations;
}

function isInsert(operation: Operation): operation is InsertOperation {
  return operation.kind === "insert";
}

function name(answerer: Answerer | undefined): string {
  return answerer === undefined ? "nobody" : `${answerer.peer} (timeline ${answerer.timeline})`;
}

function at(ms: number | undefined): string {
  return ms === undefined ? "?" : `${(ms / 1000).toFixed(3)} s`;
}
