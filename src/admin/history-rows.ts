// The history as a table, and what each entry changed, in words.

import { isoTime } from "../base/text.ts";
import { type PeerEntry, type ShardState, shortName } from "../cluster/state.ts";
import type { HistoryEntry } from "../shard/port.ts";
import type { Column } from "./table.ts";

export interface HistoryRow {
  readonly entry: HistoryEntry;
  readonly before: ShardState | undefined;
}

const names = (peers: readonly PeerEntry[] | undefined) =>
  peers === undefined || peers.length === 0 ? "-" : peers.map(shortName).join(",");

export const HISTORY_COLUMNS: readonly Column<HistoryRow>[] = [
  { name: "time", label: "TIME", width: 24, value: ({ entry }) => isoTime(entry.writtenWallMs) },
  {
    name: "generation",
    label: "G#",
    width: 2,
    align: "right",
    value: ({ entry }) => String(entry.state?.generation ?? "?"),
  },
  {
    name: "mode",
    label: "MODE",
    width: 5,
    value: ({ entry }) => (entry.state === undefined ? "?" : entry.state.oneNodeWriteMode ? "singl" : "multi"),
  },
  { name: "freeze", label: "FRZ", width: 3, value: ({ entry }) => (entry.state?.freeze === undefined ? "-" : "frz") },
  { name: "primary", label: "PRIMARY", width: 8, value: ({ entry }) => names(entry.state && [entry.state.primary]) },
  { name: "sync", label: "SYNC", width: 8, value: ({ entry }) => names(entry.state?.sync ? [entry.state.sync] : []) },
  { name: "async", label: "ASYNC", width: 8, value: ({ entry }) => names(entry.state?.async) },
  { name: "deposed", label: "DEPOSED", width: 8, value: ({ entry }) => names(entry.state?.deposed) },
];

export const SUMMARY_COLUMN: Column<HistoryRow> = { name: "summary", label: "SUMMARY", width: 7, value: summaryOf };

export function historyRows(entries: readonly HistoryEntry[]): HistoryRow[] {
  return entries.map((entry, at) => ({ entry, before: entries[at - 1]?.state }));
}

/** What changed, then rule and reason where the writer gave them. */
function summaryOf({ entry, before }: HistoryRow): string {
  const { state } = entry;
  if (state === undefined) return "not readable: see manatee-adm history -j";
  const changes =
    before === undefined
      ? [`shard set up for ${state.oneNodeWriteMode ? "one-node-write" : "normal (multi-peer)"} mode`]
      : changesBetween(before, state);
  const told = changes.length === 0 ? "nothing but the version" : changes.join(", ");
  // The original's tools carry both along unchanged: then they tell of the change before.
  const stale =
    before !== undefined && state.written !== undefined && state.written.version === before.written?.version;
  return state.rule === "" || stale ? told : `${told} [${state.rule}: ${state.reason}]`;
}

function changesBetween(before: ShardState, after: ShardState): string[] {
  return [...roleChanges(before, after), ...listChanges(before, after), ...markChanges(before, after)];
}

function roleChanges(before: ShardState, after: ShardState): string[] {
  const now = shortName(after.primary);
  if (before.primary.id !== after.primary.id) {
    const from = shortName(before.primary);
    return [
      before.sync?.id === after.primary.id
        ? `sync (${now}) took over as primary (from ${from})`
        : `${now} was made primary (from ${from})`,
    ];
  }
  if (before.sync?.id !== after.sync?.id) {
    if (after.sync === null)
      return [
        `primary (${now}) goes on without a sync (was ${before.sync === null ? "none" : shortName(before.sync)})`,
      ];
    return [
      `primary (${now}) selected new sync (was ${before.sync === null ? "none" : shortName(before.sync)}, now ${shortName(after.sync)})`,
    ];
  }
  if (before.sync !== null && after.sync !== null && before.sync.incarnation !== after.sync.incarnation)
    return [`sync (${shortName(after.sync)}) has new data`];
  return [];
}

function listChanges(before: ShardState, after: ShardState): string[] {
  const isIn = (list: readonly PeerEntry[], { id }: PeerEntry) => list.some((peer) => peer.id === id);
  const moved = new Set([before.primary.id, before.sync?.id, after.primary.id, after.sync?.id]);
  const quoted = (peer: PeerEntry) => `"${shortName(peer)}"`;
  const renewed = after.async.filter((peer) =>
    before.async.some((other) => other.id === peer.id && other.incarnation !== peer.incarnation),
  );
  const changes = [
    ...renewed.map((peer) => `async ${quoted(peer)} has new data`),
    ...after.async
      .filter((peer) => !isIn(before.async, peer) && before.sync?.id !== peer.id)
      .map((peer) => `async ${quoted(peer)} added`),
    ...before.async
      .filter((peer) => !isIn(after.async, peer) && !moved.has(peer.id))
      .map((peer) => `async ${quoted(peer)} removed`),
    ...after.deposed
      .filter((peer) => !isIn(before.deposed, peer) && before.primary.id !== peer.id)
      .map((peer) => `${quoted(peer)} deposed`),
    ...before.deposed.filter((peer) => !isIn(after.deposed, peer)).map((peer) => `${quoted(peer)} no longer deposed`),
  ];
  const order = (state: ShardState) => state.async.map(({ id }) => id).join();
  return changes.length === 0 &&
    before.primary.id === after.primary.id &&
    before.sync?.id === after.sync?.id &&
    order(before) !== order(after)
    ? ["asyncs changed places"]
    : changes;
}

function markChanges(before: ShardState, after: ShardState): string[] {
  const changes: string[] = [];
  if (before.freeze === undefined && after.freeze !== undefined)
    changes.push(`shard frozen: ${after.freeze.reason ?? "no reason given"}`);
  if (before.freeze !== undefined && after.freeze === undefined) changes.push("shard unfrozen");
  if (before.promote === undefined && after.promote !== undefined)
    changes.push(`promotion of ${after.promote.id} (${after.promote.role}) requested`);
  if (before.promote !== undefined && after.promote === undefined) changes.push("request to promote removed");
  if (before.malformedPromote !== undefined && after.malformedPromote === undefined)
    changes.push("malformed request to promote removed");
  if (before.oneNodeWriteMode !== after.oneNodeWriteMode)
    changes.push(`one-node-write mode ${after.oneNodeWriteMode ? "on" : "off"}`);
  if (before.generation === after.generation && before.provisional && !after.provisional)
    changes.push("takeover complete");
  return changes;
}
