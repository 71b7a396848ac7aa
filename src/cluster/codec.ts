// The state document as JSON: Manatee 2's names and fields, with ours beside them. Reading never throws: whatever stands in the
// store becomes a state or a typed reason why it is none. This file knows the form only; what a state may say is invariants.ts.

import { isObject, type JsonObject, parseJson } from "../base/json.ts";
import { formatLsn, HIGHEST_TIMELINE, parseLsn, type Timeline } from "../base/lsn.ts";
import { parsePeerId } from "../base/peer-id.ts";
import {
  type Freeze,
  KNOWN_FEATURES,
  membersOf,
  type PeerEntry,
  type PromoteRequest,
  type ShardState,
} from "./state.ts";

export type UnreadableCode = "STATE_MALFORMED" | "STATE_UNKNOWN_FEATURE" | "STATE_REQUIRES_LOST";

export interface UnreadableState {
  readonly kind: "unreadable";
  readonly code: UnreadableCode;
  readonly message: string;
  readonly hint: string;
}

export type DecodedState = { readonly kind: "state"; readonly state: ShardState } | UnreadableState;

/** Deeper documents are refused: JSON.stringify recurses, and a document that was read must be writable again. */
const NESTING_MAX = 64;

const ORIGINAL_FIELDS = [
  "generation",
  "primary",
  "sync",
  "async",
  "deposed",
  "initWal",
  "freeze",
  "promote",
  "oneNodeWriteMode",
];
/** A document with any of these was written by an agent of ours, and then must have `requires`, too. */
const OUR_FIELDS = [
  "initTimeline",
  "provisional",
  "timeline",
  "highestTimeline",
  "systemIdentifier",
  "rule",
  "reason",
  "written",
];
const STATE_FIELDS: ReadonlySet<string> = new Set([...ORIGINAL_FIELDS, ...OUR_FIELDS, "requires"]);
const ADDRESS_FIELDS = ["id", "ip", "pgUrl", "backupUrl", "zoneId"] as const;
const PEER_FIELDS: ReadonlySet<string> = new Set([...ADDRESS_FIELDS, "incarnation"]);

/** Raised inside this file only; carries what {@link decodeState} returns. */
class Unreadable extends Error {
  readonly result: UnreadableState;
  constructor(code: UnreadableCode, message: string, hint: string) {
    super(message);
    this.result = { kind: "unreadable", code, message, hint };
  }
}

/**
 * Reads a document. One without any field of ours is the original's, and readable ({@link isOriginals}): `incarnation`,
 * `systemIdentifier` and `written` are undefined, `rule` and `reason` empty, `requires` empty, `provisional` false, and
 * the three timelines 1. An agent may show such a document, follow the primary that it names and report itself; it must
 * not claim, resume as primary or replace a sync on it, because an entry without an incarnation is nobody's data, and
 * timeline 1 is a guess (safe as one: a WAL that left timeline 1 before initWal does not contain that point).
 */
export function decodeState(json: string): DecodedState {
  try {
    return { kind: "state", state: stateOf(documentOf(json)) };
  } catch (error) {
    if (error instanceof Unreadable) return error.result;
    throw error;
  }
}

/** The inverse of {@link decodeState}. A document of the original stays one: none of our fields is added to it. */
export function encodeState(state: ShardState): string {
  const original = isOriginals(state);
  const promote = state.promote ? encodePromote(state.promote) : encodeMalformedPromote(state.malformedPromote);
  return JSON.stringify({
    generation: state.generation,
    primary: encodePeer(state.primary),
    sync: state.sync && encodePeer(state.sync),
    async: state.async.map(encodePeer),
    deposed: state.deposed.map(encodePeer),
    initWal: formatLsn(state.initWal),
    ...(state.freeze && { freeze: encodeFreeze(state.freeze) }),
    ...(promote !== undefined && { promote }),
    ...(state.oneNodeWriteMode && { oneNodeWriteMode: true }),
    ...(!original && {
      initTimeline: state.initTimeline,
      provisional: state.provisional,
      timeline: state.timeline,
      highestTimeline: state.highestTimeline,
      systemIdentifier: state.systemIdentifier,
      rule: state.rule,
      reason: state.reason,
      written: state.written,
      requires: state.requires,
    }),
    ...without(state.extra, STATE_FIELDS),
  });
}

/** Whether it is a document of the original's programs that no agent of ours has made its own yet. */
export function isOriginals(state: ShardState): boolean {
  return (
    state.requires.length === 0 &&
    state.systemIdentifier === undefined &&
    state.written === undefined &&
    state.rule === "" &&
    membersOf(state).every((peer) => peer.incarnation === undefined)
  );
}

/**
 * Who wrote the document that stands at this version. The original's manatee-adm carries unknown fields along, so that our
 * `written` (and `rule` and `reason`) then still tell of an earlier version: `foreign`.
 */
export function writerOf(state: ShardState, version: number): { readonly by: string; readonly foreign: boolean } {
  if (state.written?.version === version) return { by: state.written.by, foreign: false };
  return { by: "a program of the original Manatee", foreign: true };
}

// --- reading

function documentOf(json: string): JsonObject {
  const value = parseJson(json);
  if (value === undefined) throw malformed("it is no JSON");
  if (!isObject(value)) throw malformed("it is no JSON object");
  if (isDeeperThan(value, NESTING_MAX)) throw malformed(`it is nested deeper than ${NESTING_MAX}`);
  return value;
}

function stateOf(document: JsonObject): ShardState {
  // First of all: a later version may have changed what the other fields look like.
  const requires = requiresOf(document);
  const primary = peerOf(document["primary"], "primary");
  const sync = document["sync"] === null ? null : peerOf(document["sync"], "sync");
  const async = peersOf(document["async"], "async");
  const deposed = peersOf(document["deposed"], "deposed");
  const members = [primary, ...(sync ? [sync] : []), ...async, ...deposed];
  refuseTwoRoles(members);
  const ours =
    requires !== undefined ||
    OUR_FIELDS.some((field) => isThere(document[field])) ||
    members.some((peer) => peer.incarnation !== undefined);
  if (ours && requires === undefined)
    throw new Unreadable(
      "STATE_REQUIRES_LOST",
      "the state document has fields of this version, but lost the list of features that it requires",
      "find out which program rewrote the document, then write a trusted one with `manatee-adm state restore`",
    );
  return {
    generation: integerOf(document["generation"], "generation", { min: 0 }),
    primary,
    sync,
    async,
    deposed,
    initWal: lsnOf(document["initWal"]),
    freeze: freezeOf(document["freeze"]),
    oneNodeWriteMode: flagOf(document["oneNodeWriteMode"], "oneNodeWriteMode"),
    ...promoteOf(document["promote"]),
    ...timelinesOf(document, ours),
    systemIdentifier: systemIdentifierOf(document["systemIdentifier"]),
    rule: textOf(document["rule"], "rule"),
    reason: textOf(document["reason"], "reason"),
    written: writtenOf(document["written"]),
    requires: requires ?? [],
    extra: without(document, STATE_FIELDS),
  };
}

function requiresOf(document: JsonObject): readonly string[] | undefined {
  const requires = document["requires"];
  if (!isThere(requires)) return undefined;
  if (!Array.isArray(requires) || !requires.every((feature) => typeof feature === "string"))
    throw malformed("requires is no list of names");
  const unknown = requires.filter((feature) => !KNOWN_FEATURES.includes(feature));
  if (unknown.length > 0)
    throw new Unreadable(
      "STATE_UNKNOWN_FEATURE",
      `the state document requires features that this version does not know: ${unknown.map((name) => name.slice(0, 40)).join(", ")}`,
      "upgrade Manatee on this host to the version that the other peers run",
    );
  return requires;
}

function peerOf(value: unknown, where: string): PeerEntry {
  if (!isObject(value)) throw malformed(`${where} is no peer`);
  const [id, ip, pgUrl, backupUrl, zoneId] = ADDRESS_FIELDS.map((field) => {
    const text = value[field];
    if (typeof text !== "string" || text === "") throw malformed(`${where} has no ${field}`);
    return text;
  }) as [string, string, string, string, string];
  if (!parsePeerId(id)) throw malformed(`the id of ${where} is not ip:pgPort:backupPort`);
  const incarnation = value["incarnation"];
  if (isThere(incarnation) && (typeof incarnation !== "string" || incarnation === ""))
    throw malformed(`the incarnation of ${where} is no name`);
  return {
    id,
    ip,
    pgUrl,
    backupUrl,
    zoneId,
    incarnation: typeof incarnation === "string" ? incarnation : undefined,
    extra: without(value, PEER_FIELDS),
  };
}

function peersOf(value: unknown, where: string): readonly PeerEntry[] {
  if (!Array.isArray(value)) throw malformed(`${where} is no list of peers`);
  return value.map((peer, index) => peerOf(peer, `${where} ${index}`));
}

/** A peer in two roles is no matter of degree: nobody could say what that peer should be. */
function refuseTwoRoles(members: readonly PeerEntry[]): void {
  const seen = new Set<string>();
  for (const { id } of members) {
    if (seen.has(id)) throw malformed(`peer ${id} stands in it twice`);
    seen.add(id);
  }
}

function timelinesOf(document: JsonObject, ours: boolean) {
  if (!ours) return { initTimeline: 1, provisional: false, timeline: 1, highestTimeline: 1 };
  const timeline = (field: string): Timeline => integerOf(document[field], field, { min: 1, max: HIGHEST_TIMELINE });
  return {
    initTimeline: timeline("initTimeline"),
    provisional: flagOf(document["provisional"], "provisional"),
    timeline: timeline("timeline"),
    highestTimeline: timeline("highestTimeline"),
  };
}

function freezeOf(value: unknown): Freeze | undefined {
  if (!isThere(value) || value === false) return undefined;
  if (value === true) return { date: undefined, reason: undefined };
  if (!isObject(value)) throw malformed("freeze is neither true nor a date and a reason");
  const [date, reason] = ["date", "reason"].map((field) => {
    const text = value[field];
    if (isThere(text) && typeof text !== "string") throw malformed(`the ${field} of freeze is no text`);
    return typeof text === "string" ? text : undefined;
  });
  return { date, reason };
}

/** A request that is none is kept apart, and does not make the document unreadable: the primary clears it, and says why (T3). */
function promoteOf(value: unknown): Pick<ShardState, "promote" | "malformedPromote"> {
  if (!isThere(value) || value === false) return { promote: undefined, malformedPromote: undefined };
  const promote = isObject(value) ? promoteRequestOf(value) : undefined;
  return promote ? { promote, malformedPromote: undefined } : { promote, malformedPromote: JSON.stringify(value) };
}

const ISO_8601 = /^\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])T([01]\d|2[0-4]):[0-5]\d:[0-6]\d(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})$/;

function promoteRequestOf(value: JsonObject): PromoteRequest | undefined {
  const { id, role, asyncIndex, generation, expireTime } = value;
  if (typeof id !== "string" || id === "") return undefined;
  if (role !== "sync" && role !== "async") return undefined;
  if (role === "async" && !isInteger(asyncIndex, 0)) return undefined;
  if (!isInteger(generation, 0)) return undefined;
  if (typeof expireTime !== "string" || !ISO_8601.test(expireTime)) return undefined;
  return { id, role, asyncIndex: role === "async" ? (asyncIndex as number) : undefined, generation, expireTime };
}

function writtenOf(value: unknown): ShardState["written"] {
  if (!isThere(value)) return undefined;
  if (!isObject(value)) throw malformed("written is no object");
  const { by, version } = value;
  if (typeof by !== "string" || !isInteger(version, 0))
    throw malformed("written does not say by whom and which version");
  return { by, version };
}

/** Text, because the original's programs write numbers back with 53 bits. */
function systemIdentifierOf(value: unknown): string | undefined {
  if (!isThere(value)) return undefined;
  if (typeof value !== "string" || !/^\d{1,20}$/.test(value)) throw malformed("systemIdentifier is no decimal string");
  return value;
}

function lsnOf(value: unknown) {
  const lsn = typeof value === "string" ? parseLsn(value) : undefined;
  if (lsn === undefined) throw malformed("initWal is no WAL position");
  return lsn;
}

function integerOf(value: unknown, field: string, { min, max }: { min: number; max?: number }): number {
  if (!isInteger(value, min) || value > (max ?? Number.MAX_SAFE_INTEGER))
    throw malformed(`${field} is no whole number from ${min} on`);
  return value;
}

function flagOf(value: unknown, field: string): boolean {
  if (!isThere(value)) return false;
  if (typeof value !== "boolean") throw malformed(`${field} is neither true nor false`);
  return value;
}

function textOf(value: unknown, field: string): string {
  if (!isThere(value)) return "";
  if (typeof value !== "string") throw malformed(`${field} is no text`);
  return value;
}

function malformed(what: string): Unreadable {
  return new Unreadable(
    "STATE_MALFORMED",
    `the state document can't be read: ${what}`,
    "look at it with `manatee-adm zk-state`, compare with `manatee-adm history`, and write a good one with `manatee-adm state restore`",
  );
}

// --- writing

function encodePeer(peer: PeerEntry): JsonObject {
  const { id, ip, pgUrl, backupUrl, zoneId, incarnation } = peer;
  return {
    id,
    ip,
    pgUrl,
    backupUrl,
    zoneId,
    ...(incarnation !== undefined && { incarnation }),
    ...without(peer.extra, PEER_FIELDS),
  };
}

function encodeFreeze({ date, reason }: Freeze): true | Freeze {
  return date === undefined && reason === undefined ? true : { date, reason };
}

function encodePromote({ id, role, asyncIndex, generation, expireTime }: PromoteRequest): JsonObject {
  return { id, role, ...(asyncIndex !== undefined && { asyncIndex }), generation, expireTime };
}

function encodeMalformedPromote(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  const value = parseJson(text);
  return value === undefined ? text : value;
}

// --- JSON

/** null counts as absent, as it does for the original's programs. */
export function isThere(value: unknown): boolean {
  return value !== undefined && value !== null;
}

export function isInteger(value: unknown, min: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= min;
}

/** Object.fromEntries, not assignment: a field called `__proto__` is a field like others. */
function without(object: JsonObject, fields: ReadonlySet<string>): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([field]) => !fields.has(field)));
}

function isDeeperThan(value: unknown, limit: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    level = level.flatMap((each) => (typeof each === "object" && each !== null ? Object.values(each) : []));
  }
  return false;
}

/** The generation of a document, also of one that can't be used otherwise; 0: it names none. */
export function generationIn(json: string): number {
  const value = parseJson(json);
  return isObject(value) && isInteger(value["generation"], 0) ? value["generation"] : 0;
}
