// What must hold of a state, and of the step from one state to the next. One set of functions with three users: the check before
// each write (a violation there is never sent), the simulator, and `verify` (of the state alone). They say what a document may be, not when to write it.

import { utf8Length } from "../base/text.ts";
import { formatLsn, HIGHEST_TIMELINE } from "../base/lsn.ts";
import { parsePeerId } from "../base/peer-id.ts";
import { isOriginals } from "./codec.ts";
import {
  chainOf,
  entryOf,
  isFrozen,
  membersOf,
  NAME_BYTES_MAX,
  type PeerEntry,
  type ShardState,
  shortName,
} from "./state.ts";

/** `rule` names the invariant (a word for people and tests, not a protocol rule); `message` is for an operator. */
export interface Violation {
  readonly rule: string;
  readonly message: string;
}

export interface TransitionContext {
  /**
   * Who writes. `agent`: a sitter, held to everything. `operator`: a command that changes flags or takes a peer out of
   * the lists (freeze, promote, reap, one-node-write). `forced`: O2. `restore`: B1's way out, whatever was there before.
   */
  readonly kind: "agent" | "operator" | "forced" | "restore";
}

export function checkState(state: ShardState): readonly Violation[] {
  const found: Violation[] = [];
  const members = membersOf(state);
  const must = collector(found);
  must("generation", isWhole(state.generation) && state.generation >= 1, () => `generation is ${state.generation}`);
  for (const id of duplicates(members.map((peer) => peer.id)))
    must("one-role", false, () => `peer ${id} has more than one role`);
  checkNames(state, must);
  checkTimelines(state, must);
  if (!isOriginals(state)) checkOurs(state, must);
  return found;
}

/** Of a write that replaces `before` (undefined: there is no document) by `after`; includes {@link checkState} of `after`. */
export function checkTransition(
  before: ShardState | undefined,
  after: ShardState,
  context: TransitionContext,
): readonly Violation[] {
  const found: Violation[] = [...checkState(after)];
  const must = collector(found);
  if (context.kind === "restore") {
    if (before) checkKept(before, after, must);
    return found;
  }
  if (!before) {
    must("generation", after.generation === 1, () => `the first generation is ${after.generation}`);
    must("deposed", after.deposed.length === 0, () => "the first generation has deposed peers");
    must("promote", after.promote === undefined, () => "the first generation has a promote request");
    return found;
  }
  checkGeneration(before, after, must);
  checkKept(before, after, must);
  checkRoles(before, after, context, must);
  checkBegin(before, after, context, must);
  if (context.kind === "agent") checkAgent(before, after, must);
  return found;
}

type Must = (rule: string, holds: boolean, message: () => string) => void;

function collector(found: Violation[]): Must {
  return (rule, holds, message) => {
    if (!holds) found.push({ rule, message: message() });
  };
}

// --- one state

/** A name is a vote: pgUrls are compared as PostgreSQL compares application names, without case. */
function checkNames(state: ShardState, must: Must): void {
  const members = membersOf(state);
  for (const peer of members) {
    must("peer-id", parsePeerId(peer.id) !== undefined, () => `the id ${peer.id} is not ip:pgPort:backupPort`);
    const bytes = utf8Length(peer.pgUrl);
    must(
      "name-length",
      bytes <= NAME_BYTES_MAX,
      () => `the pgUrl of ${peer.id} has ${bytes} bytes, ${NAME_BYTES_MAX} at most`,
    );
  }
  for (const url of duplicates(members.map((peer) => peer.pgUrl.toLowerCase())))
    must("unique-pg-url", false, () => `several peers have the pgUrl ${url}`);
  for (const zone of duplicates(members.map(shortName)))
    must("unique-zone-id", false, () => `several peers have a zoneId that begins with ${zone}`);
}

function checkTimelines(state: ShardState, must: Must): void {
  const { initTimeline, timeline, highestTimeline, provisional } = state;
  for (const [field, value] of Object.entries({ initTimeline, timeline, highestTimeline }))
    must("timeline", isWhole(value) && value >= 1 && value <= HIGHEST_TIMELINE, () => `${field} is ${value}`);
  must("timeline", timeline <= highestTimeline, () => `timeline ${timeline} is above the highest, ${highestTimeline}`);
  must("provisional", provisional ? initTimeline < timeline : initTimeline === timeline, () =>
    provisional
      ? `provisional, but initWal is not on a timeline before ${timeline} (${initTimeline})`
      : `not provisional, but initWal is on timeline ${initTimeline} instead of ${timeline}`,
  );
}

function checkOurs(state: ShardState, must: Must): void {
  must("requires", state.requires.includes("incarnations"), () => "it does not require the feature incarnations");
  must(
    "system-identifier",
    state.systemIdentifier !== undefined && /^\d{1,20}$/.test(state.systemIdentifier),
    () => `the system identifier is ${state.systemIdentifier}`,
  );
  // B1: the sync of generation 1 may hold no data yet; an absent incarnation equals none that is announced, so it qualifies for nothing.
  for (const peer of [state.primary, ...(state.sync && state.generation > 1 ? [state.sync] : [])])
    must("incarnation", Boolean(peer.incarnation), () => `${peer.id} is named without its incarnation`);
  const incarnations = chainOf(state).flatMap((peer) => peer.incarnation ?? []);
  for (const incarnation of duplicates(incarnations))
    must("unique-incarnation", false, () => `several peers bear the incarnation ${incarnation}`);
}

// --- from one state to the next

/** Exactly one more where primary or sync are others, or other data under the same name; otherwise the same. */
function checkGeneration(before: ShardState, after: ShardState, must: Must): void {
  const step = after.generation - before.generation;
  const changed = !isSamePeer(before.primary, after.primary) || !isSamePeer(before.sync, after.sync);
  // A document that is made ours gives its peers incarnations without changing who they are.
  const named = !changed && (isNewlyNamed(before.primary, after.primary) || isNewlyNamed(before.sync, after.sync));
  must(
    "generation",
    named ? step === 0 || step === 1 : step === (changed ? 1 : 0),
    () =>
      `generation goes from ${before.generation} to ${after.generation}, and primary or sync ${changed ? "change" : "stay"}`,
  );
}

/** What is never lost, by nobody. */
function checkKept(before: ShardState, after: ShardState, must: Must): void {
  const lost = before.requires.filter((feature) => !after.requires.includes(feature));
  must("requires", lost.length === 0, () => `required features are lost: ${lost.join(", ")}`);
  must(
    "system-identifier",
    before.systemIdentifier === undefined || before.systemIdentifier === after.systemIdentifier,
    () => `the system identifier changes from ${before.systemIdentifier} to ${after.systemIdentifier}`,
  );
  must(
    "highest-timeline",
    after.highestTimeline >= before.highestTimeline,
    () => `the highest timeline falls from ${before.highestTimeline} to ${after.highestTimeline}`,
  );
}

function checkRoles(before: ShardState, after: ShardState, { kind }: TransitionContext, must: Must): void {
  const replaced = before.primary.id !== after.primary.id;
  must(
    "primary",
    !replaced || kind === "forced" || (before.sync !== null && isSamePeer(before.sync, after.primary)),
    () => `${after.primary.id} becomes primary without having been the sync that the state names`,
  );
  must("primary", !replaced || kind !== "operator", () => "a command changes the primary");
  must(
    "former-primary",
    !replaced || entryOf(after, before.primary.id) !== undefined,
    () => `the former primary ${before.primary.id} is not in the state any more`,
  );
  must(
    "sync",
    after.sync !== null || before.sync === null || before.oneNodeWriteMode || replaced,
    () => "the sync is taken away without one-node-write mode having been asked for",
  );
  const dropped = before.deposed.filter((peer) => !entryOf(after, peer.id));
  must(
    "deposed",
    dropped.length === 0 || kind !== "agent" || after.generation === before.generation,
    () => `deposed peers disappear with a new generation: ${dropped.map((peer) => peer.id).join(", ")}`,
  );
}

/** Where the generation begins never moves backwards. What O2 gives up is said when it is asked for. */
function checkBegin(before: ShardState, after: ShardState, { kind }: TransitionContext, must: Must): void {
  const amended = before.generation === after.generation && before.provisional && !after.provisional;
  const began = before.generation !== after.generation;
  const same = before.initTimeline === after.initTimeline && before.initWal === after.initWal;
  const place = `${formatLsn(after.initWal)} on ${after.initTimeline}, was ${formatLsn(before.initWal)} on ${before.initTimeline}`;
  must("init-wal", began || amended || same, () => `initWal changes within a generation: ${place}`);
  must(
    "init-wal",
    kind === "forced" ||
      after.initTimeline > before.initTimeline ||
      (after.initTimeline === before.initTimeline && after.initWal >= before.initWal),
    () => `initWal goes backwards: ${place}`,
  );
  must(
    "provisional",
    began || !after.provisional || before.provisional,
    () => "initWal becomes provisional within a generation",
  );
  if (before.primary.id !== after.primary.id)
    must(
      "new-timeline",
      after.timeline > before.highestTimeline,
      () => `timeline ${after.timeline} of the new primary may have been used (up to ${before.highestTimeline})`,
    );
  else
    must(
      "timeline",
      after.timeline === before.timeline || isOriginals(before) || kind === "forced",
      () => `the timeline of the same primary changes from ${before.timeline} to ${after.timeline}`,
    );
}

function checkAgent(before: ShardState, after: ShardState, must: Must): void {
  must(
    "provisional",
    before.primary.id === after.primary.id || after.provisional,
    () => "a takeover is written as if the new timeline's begin were known",
  );
  must(
    "promote",
    after.promote === undefined || JSON.stringify(after.promote) === JSON.stringify(before.promote),
    () => "an agent writes a promote request",
  );
  // One-node-write mode is frozen by definition (O1).
  const alone = after.oneNodeWriteMode && after.sync === null;
  must(
    "freeze",
    isFrozen(before) === isFrozen(after) || alone,
    () => `an agent ${isFrozen(after) ? "freezes" : "unfreezes"} the shard`,
  );
  if (isFrozen(before) && !(alone && before.oneNodeWriteMode))
    must("frozen", membersKey(before) === membersKey(after), () => "an agent changes the roles of a frozen shard");
}

function membersKey(state: ShardState): string {
  const of = (peers: readonly PeerEntry[]) => peers.map((peer) => [peer.id, peer.incarnation ?? null]);
  return JSON.stringify([state.generation, of(chainOf(state)), state.sync === null, of(state.deposed)]);
}

function isSamePeer(a: PeerEntry | null, b: PeerEntry | null): boolean {
  if (a === null || b === null) return a === b;
  return a.id === b.id && (a.incarnation === b.incarnation || a.incarnation === undefined);
}

function isNewlyNamed(a: PeerEntry | null, b: PeerEntry | null): boolean {
  return a !== null && a.incarnation === undefined && b?.incarnation !== undefined;
}

// --- values

function isWhole(value: number): boolean {
  return Number.isSafeInteger(value);
}

function duplicates(values: readonly string[]): readonly string[] {
  return [...new Set(values.filter((value, index) => values.indexOf(value) !== index))];
}
