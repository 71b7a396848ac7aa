// The picture: the chain as a table, the writes as a sparkline. Text from data; show.ts brings it to the terminal.

import pc from "picocolors";
import { type Lsn, parseLsn } from "../src/base/lsn.ts";
import type { PeerReport } from "../src/status/report.ts";
import type { Peer } from "./shard.ts";
import { bytes, count, cutTo, padTo, sparkline } from "./text.ts";
import { inOrder, type Reports } from "./watch.ts";

export interface Picture {
  /** `PostgreSQL 18.4, embedded store` */
  readonly about: string;
  readonly generation: number | undefined;
  readonly reports: Reports;
  /** Writes in each of the last intervals. */
  readonly rates: readonly number[];
  readonly intervalMs: number;
  /** undefined: nobody writes yet. */
  readonly writes: { readonly acknowledged: number; readonly longestGapMs: number } | undefined;
}

export function draw(picture: Picture, columns: number): string[] {
  return [
    "",
    `  ${pc.bold("Manatee")}  ${pc.dim(picture.about)}   ${picture.generation === undefined ? "" : `generation ${pc.bold(String(picture.generation))}`}`,
    "",
    ...table(picture.reports),
    "",
    ...(picture.writes ? [writesLine(picture, columns)] : []),
  ].map((line) => cutTo(line, columns));
}

const widths = [12, 11, 26, 14, 10, 8];

function table(reports: Reports): string[] {
  const rows = inOrder(reports);
  const head = row(["peer", "role", "PostgreSQL", "WAL", "behind", "clients"].map((title) => pc.dim(title)));
  const primaryEnd = endOf(rows.find(([, report]) => report?.role === "primary")?.[1]);
  return [
    `    ${head}`,
    ...rows.flatMap(([peer, report]) => [peerLine(peer, report, primaryEnd), withNames(decisionLine(report), reports)]),
  ];
}

function peerLine(peer: Peer, report: PeerReport | null, primaryEnd: Lsn | undefined): string {
  if (!report && peer.sitterPid !== undefined)
    return `  ${pc.yellow("○")} ${row([pc.bold(peer.name), "", pc.dim("its sitter starts")])}`;
  if (!report) return `  ${pc.red("✗")} ${row([pc.bold(peer.name), "", pc.red("its sitter is dead")])}`;
  const { postgres } = report;
  const end = endOf(report);
  const behind =
    report.role === "primary" || end === undefined || primaryEnd === undefined
      ? ""
      : bytes(primaryEnd > end ? primaryEnd - end : 0n);
  const gate = report.role === "primary" ? (postgres.gate === "open" ? pc.green("open") : pc.yellow("shut")) : "";
  const mark = postgres.healthy ? pc.green("●") : pc.yellow("○");
  return `  ${mark} ${row([pc.bold(peer.name), roleText(report.role), stateText(report), postgres.walEnd ?? "", behind, gate])}`;
}

function roleText(role: PeerReport["role"]): string {
  if (role === "primary") return pc.green("primary");
  if (role === "sync") return pc.cyan("sync");
  if (role === "deposed") return pc.red("deposed");
  return role === "none" || role === null ? pc.dim("–") : role;
}

function stateText({ postgres }: PeerReport): string {
  if (postgres.job) return pc.yellow(`${postgres.job.kind}${postgres.job.progress ? ` ${postgres.job.progress}` : ""}`);
  const timeline = postgres.timeline === null ? "" : `, timeline ${postgres.timeline}`;
  if (postgres.state === "standby")
    return `${postgres.receiver === "streaming" ? "streams" : pc.yellow("standby")}${timeline}`;
  if (postgres.state === "primary") return `serves${timeline}`;
  return pc.yellow(postgres.state === "no-data" ? "no data yet" : postgres.state);
}

/** What it does and why; or what it waits for. */
function decisionLine(report: PeerReport | null): string {
  if (!report) return "";
  const { rule, because, waitingOn } = report.decision;
  return pc.dim(`      ${padTo(rule, 7)}${waitingOn ? `waits for ${waitingOn}: ` : ""}${because}`);
}

/** Sitters speak of peers by their ids. */
function withNames(text: string, reports: Reports): string {
  return [...reports.keys()].reduce((named, peer) => named.replaceAll(peer.id, peer.name), text);
}

function writesLine({ rates, intervalMs, writes }: Picture, columns: number): string {
  const numbers = `${count(writes?.acknowledged ?? 0)} writes acknowledged, longest gap ${count(Math.round(writes?.longestGapMs ?? 0))} ms`;
  const latest = Math.round(((rates.at(-2) ?? 0) * 1000) / intervalMs);
  const room = Math.max(10, Math.min(60, columns - numbers.length - 22));
  return `  ${pc.green(padTo(sparkline(rates.slice(-room)), room))} ${pc.bold(`${latest}/s`)}   ${pc.dim(numbers)}`;
}

function row(cells: readonly string[]): string {
  return cells
    .map((cell, i) => padTo(cell, widths[i] ?? 0))
    .join("")
    .trimEnd();
}

function endOf(report: PeerReport | null | undefined): Lsn | undefined {
  return report?.postgres.walEnd ? parseLsn(report.postgres.walEnd) : undefined;
}

/** `alpha → bravo → charlie`, for those who see lines only. */
export function chainText(reports: Reports): string {
  const known = inOrder(reports).filter(([, report]) => report?.role);
  const chain = known.filter(([, report]) => report?.role !== "deposed" && report?.role !== "none");
  const deposed = known.filter(([, report]) => report?.role === "deposed");
  const silent = [...reports].filter(([, report]) => report === null);
  const names = (title: string, peers: readonly (readonly [Peer, unknown])[]) =>
    peers.length > 0 ? `, ${title}: ${peers.map(([peer]) => peer.name).join(", ")}` : "";
  const text = chain.map(([peer, report]) => `${peer.name} (${report?.role})`).join(" → ");
  return chain.length === 0 ? "" : `${text}${names("deposed", deposed)}${names("dead", silent)}`;
}
