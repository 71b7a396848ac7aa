// Where a shard stands and how it got there, for the person who reads that a test has failed.

import type { PeerReport } from "../../src/status/report.ts";
import { describeState, type HistoryDocument, type StateDocument } from "./documents.ts";
import type { Snapshot } from "./shard.ts";
import type { TestPeer } from "./peer.ts";

/** The newest entries of the history, and the last lines of each log. */
const ENTRIES = 12;
const LINES = 15;

export async function tellStory({
  snapshot: { state, present, reports },
  history,
  peers,
}: {
  snapshot: Snapshot;
  history: readonly HistoryDocument[];
  peers: readonly TestPeer[];
}): Promise<string> {
  const nameOf = (id: string) => peers.find((peer) => peer.id === id)?.name ?? id;
  const lines = [
    `state: ${state === undefined ? "none" : describeState(state)}`,
    `present: ${present.map(nameOf).join(", ") || "nobody"}`,
    "history:",
    ...history.slice(-ENTRIES).map((entry) => `    ${clockOf(entry.writtenWallMs)} ${describeState(entry.state)}`),
  ];
  for (const peer of peers) {
    const report = reports[peer.name];
    lines.push(
      `${peer.name} (${peer.port}): ${report === undefined ? "sitter doesn't answer" : describeReport(report)}`,
    );
    lines.push(await peer.logTail(LINES));
    if (report?.postgres.healthy !== true) lines.push("  its PostgreSQL:", await peer.serverTrouble(LINES));
  }
  return lines.join("\n");
}

function clockOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(11, 23);
}

/** All of these peers are in the chain and stream, and clients may come in everywhere. */
export function isComplete(state: StateDocument, reports: Snapshot["reports"], peers: readonly TestPeer[]): boolean {
  if (state.provisional === true) return false;
  const chain = [state.primary, ...(state.sync === null ? [] : [state.sync]), ...state.async].map(({ id }) => id);
  return peers.every((peer) => {
    const postgres = reports[peer.name]?.postgres;
    if (postgres === undefined || !chain.includes(peer.id)) return false;
    if (peer.id === state.primary.id) return postgres.state === "primary" && postgres.gate === "open";
    return postgres.state === "standby" && postgres.receiver === "streaming" && postgres.gate === "open";
  });
}

function describeReport({ role, generation, decision, postgres }: PeerReport): string {
  const waiting = decision.waitingOn === null ? "" : `, waiting on ${decision.waitingOn}`;
  const operator = decision.operator === null ? "" : `, operator: ${decision.operator}`;
  const error = postgres.error === null ? "" : `, error ${postgres.error}`;
  return `${role ?? "?"} in G${generation ?? "?"}, ${decision.rule} for ${decision.forMs} ms: ${decision.because}${waiting}${operator}; PostgreSQL ${postgres.state}, gate ${postgres.gate ?? "-"}, receiver ${postgres.receiver ?? "-"}, timeline ${postgres.timeline ?? "-"}, end ${postgres.walEnd ?? "-"}, sync names [${postgres.syncNames?.join(", ") ?? "-"}]${error}${postgres.warnings.map((warning) => `, warning ${warning}`).join("")}`;
}
