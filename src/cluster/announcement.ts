// What stands in a peer's election node: its name `ID-SEQUENCE`, its addresses as the original's clients read them, and beside
// them what the peer says of itself. Whatever stands there, reading it never throws: others' mistakes must not stop this peer.

import { isObject, parseJson } from "../base/json.ts";
import { formatLineage, parseLineage } from "../base/lineage.ts";
import { formatLsn, parseLsn } from "../base/lsn.ts";
import { parsePeerId, type PeerId } from "../base/peer-id.ts";
import { isInteger, isThere } from "./codec.ts";
import type { Announcement, ElectionEntry } from "./observation.ts";
import type { PeerAddress } from "./state.ts";
import { NO_TAGS, type Tags } from "./tags.ts";

const DATA: readonly string[] = ["none", "marked", "foreign"] satisfies Announcement["data"][];
const PHASES: readonly string[] = [
  "idle",
  "restoring",
  "diverged",
  "following",
  "primary",
] satisfies Announcement["phase"][];
/** Longer names, and more of them, are nobody's: the data of a node are read at each look. */
const FEATURES_MAX = 64;

/** The data of an election node. `incarnation` is always there, null where the peer holds no data: an original sitter has none. */
export function encodeAnnouncement(peer: PeerAddress, announcement: Announcement): string {
  const {
    incarnation,
    data,
    systemIdentifier,
    features,
    phase,
    serving,
    handover,
    abdicates,
    callsFor,
    standing,
    tags,
  } = announcement;
  return JSON.stringify({
    zoneId: peer.zoneId,
    ip: peer.ip,
    pgUrl: peer.pgUrl,
    backupUrl: peer.backupUrl,
    incarnation: incarnation ?? null,
    data,
    systemIdentifier,
    features,
    phase,
    serving: serving && { generation: serving.generation, lineage: formatLineage(serving.lineage) },
    handover: handover && { generation: handover.generation, checkpoint: formatLsn(handover.checkpoint) },
    abdicates,
    callsFor,
    standing: standing && { lineage: formatLineage(standing), end: formatLsn(standing.end) },
    tags,
  });
}

/** undefined: an original sitter's data, or data that can't be read: such a peer is present, and never gets into the chain. */
export function decodeAnnouncement(json: unknown): Announcement | undefined {
  if (!isObject(json)) return undefined;
  const { incarnation, data, systemIdentifier, features, phase, abdicates, callsFor } = json;
  if (incarnation !== null && (typeof incarnation !== "string" || incarnation === "")) return undefined;
  if (typeof data !== "string" || !DATA.includes(data)) return undefined;
  if (typeof phase !== "string" || !PHASES.includes(phase)) return undefined;
  if (isThere(systemIdentifier) && (typeof systemIdentifier !== "string" || !/^\d{1,20}$/.test(systemIdentifier)))
    return undefined;
  if (!Array.isArray(features) || features.length > FEATURES_MAX) return undefined;
  if (!features.every((feature) => typeof feature === "string")) return undefined;
  if (isThere(abdicates) && !isInteger(abdicates, 0)) return undefined;
  if (isThere(callsFor) && (typeof callsFor !== "string" || !parsePeerId(callsFor))) return undefined;
  const serving = servingOf(json["serving"]);
  const handover = handoverOf(json["handover"]);
  const standing = standingOf(json["standing"]);
  if (serving === "malformed" || handover === "malformed" || standing === "malformed") return undefined;
  return {
    incarnation: incarnation ?? undefined,
    data: data as Announcement["data"],
    systemIdentifier: (systemIdentifier as string | null | undefined) ?? undefined,
    features,
    phase: phase as Announcement["phase"],
    serving,
    handover,
    abdicates: (abdicates as number | null | undefined) ?? undefined,
    callsFor: (callsFor as string | null | undefined) ?? undefined,
    standing,
    tags: tagsOf(json["tags"]),
  };
}

/** `ID-SEQUENCE`; undefined if it is no peer's node. */
export function parseElectionName(name: string): { readonly id: PeerId; readonly sequence: number } | undefined {
  const match = /^([^-]+)-(\d{10})$/.exec(name);
  if (!match || !parsePeerId(match[1] as string)) return undefined;
  return { id: match[1] as string, sequence: Number(match[2]) };
}

/**
 * A node below `election/`; undefined if it is no peer's. Presence is what the node itself says: where the data can't be
 * read, the peer still stands in the result, with the addresses that its id tells, and without an announcement.
 */
export function decodeElectionEntry({ name, text }: { name: string; text: string }): ElectionEntry | undefined {
  const parsed = parseElectionName(name);
  const parts = parsed && parsePeerId(parsed.id);
  if (!parsed || !parts) return undefined;
  const document = parseJson(text);
  const json = isObject(document) ? document : undefined;
  const field = (key: string, otherwise: string): string => {
    const value = json?.[key];
    return typeof value === "string" && value !== "" ? value : otherwise;
  };
  const fields = ["zoneId", "ip", "pgUrl", "backupUrl"];
  const whole = json !== undefined && fields.every((key) => field(key, "") !== "");
  return {
    peer: {
      id: parsed.id,
      zoneId: field("zoneId", parsed.id),
      ip: field("ip", parts.ip),
      pgUrl: field("pgUrl", `tcp://${parts.ip}:${parts.pgPort}`),
      backupUrl: field("backupUrl", `http://${parts.ip}:${parts.backupPort}`),
    },
    sequence: parsed.sequence,
    announcement: whole ? decodeAnnouncement(json) : undefined,
  };
}

/** Whether they say the same: an unchanged announcement is not written again. */
export function isSameAnnouncement(a: Announcement, b: Announcement): boolean {
  const nowhere: PeerAddress = { id: "", zoneId: "", ip: "", pgUrl: "", backupUrl: "" };
  return encodeAnnouncement(nowhere, a) === encodeAnnouncement(nowhere, b);
}

function servingOf(value: unknown): Announcement["serving"] | "malformed" {
  if (!isThere(value)) return undefined;
  if (!isObject(value) || !isInteger(value["generation"], 0)) return "malformed";
  const lineage = typeof value["lineage"] === "string" ? parseLineage(value["lineage"]) : undefined;
  return lineage ? { generation: value["generation"], lineage } : "malformed";
}

function handoverOf(value: unknown): Announcement["handover"] | "malformed" {
  if (!isThere(value)) return undefined;
  if (!isObject(value) || !isInteger(value["generation"], 0)) return "malformed";
  const text = value["checkpoint"];
  const checkpoint = typeof text === "string" ? parseLsn(text) : undefined;
  return checkpoint === undefined ? "malformed" : { generation: value["generation"], checkpoint };
}

function standingOf(value: unknown): Announcement["standing"] | "malformed" {
  if (!isThere(value)) return undefined;
  if (!isObject(value)) return "malformed";
  const lineage = typeof value["lineage"] === "string" ? parseLineage(value["lineage"]) : undefined;
  const end = typeof value["end"] === "string" ? parseLsn(value["end"]) : undefined;
  return lineage && end !== undefined ? { ...lineage, end } : "malformed";
}

/** Tags only choose among safe peers: what can't be read of them counts as not given, and keeps nobody out of the chain. */
function tagsOf(value: unknown): Tags | undefined {
  if (!isObject(value)) return undefined;
  const { nofailover, nosync, priority, zone } = value;
  return {
    nofailover: nofailover === true,
    nosync: nosync === true,
    priority: typeof priority === "number" && Number.isSafeInteger(priority) ? priority : NO_TAGS.priority,
    zone: typeof zone === "string" && zone !== "" ? zone : undefined,
  };
}
