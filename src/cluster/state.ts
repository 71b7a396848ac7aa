// The state document: who is what in the shard. One JSON object in the store; names and fields of Manatee 2, with ours beside them (codec.ts).

import type { JsonObject } from "../base/json.ts";
import type { Lsn, Timeline } from "../base/lsn.ts";
import type { PeerId } from "../base/peer-id.ts";

/** A random name of one data directory's content, renewed by every initdb, restore, rewind and copy before the data is touched. */
export type Incarnation = string;

/** PostgreSQL cuts an application_name there: two longer names could be one and the same vote (S1). */
export const NAME_BYTES_MAX = 63;

/** How a peer is reached, as it stands in the election and in the state. */
export interface PeerAddress {
  readonly id: PeerId;
  readonly zoneId: string;
  readonly ip: string;
  /** `tcp://USER@ADDRESS:PORT/DATABASE`; also the peer's `application_name`, hence at most 63 bytes. */
  readonly pgUrl: string;
  readonly backupUrl: string;
}

export interface PeerEntry extends PeerAddress {
  /** Absent in entries that the original's programs wrote. */
  readonly incarnation: Incarnation | undefined;
  /** Fields unknown to this version, carried along. */
  readonly extra: JsonObject;
}

export interface Freeze {
  readonly date: string | undefined;
  readonly reason: string | undefined;
}

/** T3: an operator's request, as the original writes it. */
export interface PromoteRequest {
  readonly id: PeerId;
  readonly role: "sync" | "async";
  /** With role `async` only. */
  readonly asyncIndex: number | undefined;
  readonly generation: number;
  /** ISO 8601, wall clock; past it the request is cleared. */
  readonly expireTime: string;
}

export interface ShardState {
  readonly generation: number;
  readonly primary: PeerEntry;
  /** null in one-node-write mode only. */
  readonly sync: PeerEntry | null;
  readonly async: readonly PeerEntry[];
  readonly deposed: readonly PeerEntry[];
  /** Where the generation begins, on `initTimeline`. */
  readonly initWal: Lsn;
  readonly initTimeline: Timeline;
  /** T1: initWal is still the claimant's end on the *old* timeline; nothing was acknowledged in this generation. */
  readonly provisional: boolean;
  /** The timeline that the primary is on, or (provisional) is to be on. */
  readonly timeline: Timeline;
  /** The highest timeline number ever used or claimed in the shard. */
  readonly highestTimeline: Timeline;
  /** PostgreSQL's, a decimal string of 64 bits; undefined in a document of the original. */
  readonly systemIdentifier: string | undefined;
  readonly freeze: Freeze | undefined;
  readonly promote: PromoteRequest | undefined;
  /** A `promote` that was there and is no request; the primary clears it (T3). */
  readonly malformedPromote: string | undefined;
  readonly oneNodeWriteMode: boolean;
  /** The rule by which this version was written, and why, in a sentence. */
  readonly rule: string;
  readonly reason: string;
  /** Who wrote this version. Where `version` is not the node's, the writer was the original's manatee-adm. */
  readonly written: { readonly by: string; readonly version: number } | undefined;
  /** Features an agent must know to act on this document. */
  readonly requires: readonly string[];
  /** Fields unknown to this version, carried along. */
  readonly extra: JsonObject;
}

/** Features known to this version, that a document may require. `incarnations`: R1/T1/S1 by incarnation; every document of ours requires it. */
export const KNOWN_FEATURES: readonly string[] = ["incarnations"];

export type Role = "primary" | "sync" | "async" | "deposed" | "none";

export function roleOf(state: ShardState, id: PeerId): Role {
  if (state.primary.id === id) return "primary";
  if (state.sync?.id === id) return "sync";
  if (state.async.some((peer) => peer.id === id)) return "async";
  if (state.deposed.some((peer) => peer.id === id)) return "deposed";
  return "none";
}

export function addressOf({ id, zoneId, ip, pgUrl, backupUrl }: PeerAddress): PeerAddress {
  return { id, zoneId, ip, pgUrl, backupUrl };
}

/** How people, and the original's tools, call a peer: the first eight characters of its zoneId. */
export function shortName({ zoneId }: Pick<PeerAddress, "zoneId">): string {
  return zoneId.slice(0, 8);
}

export function entryOf(state: ShardState, id: PeerId): PeerEntry | undefined {
  return membersOf(state).find((peer) => peer.id === id);
}

/** All that the state names: the chain in order, then the deposed. */
export function membersOf(state: ShardState): readonly PeerEntry[] {
  return [...chainOf(state), ...state.deposed];
}

/** primary, sync, async 0, async 1 … */
export function chainOf(state: ShardState): readonly PeerEntry[] {
  return [state.primary, ...(state.sync ? [state.sync] : []), ...state.async];
}

/** Reasons of the freezes that come with one-node-write mode, and end with it (O1). Any other is an operator's own, and stays. */
export const FREEZE_OF_MODE = {
  asked: "one-node-write mode",
  tookOverAlone: "took over alone, as configured (takeoverAlone)",
  forcedAlone: "forced to go on alone (takeover --accept-loss)",
} as const;

export function isFrozen(state: ShardState): boolean {
  return state.freeze !== undefined;
}
