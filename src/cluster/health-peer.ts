// The part of the verdict that looks at one peer of the state: is it there, does it do what its role asks, is its data the one named.

import { formatLsn, parseLsn } from "../base/lsn.ts";
import {
  type Finding,
  finding,
  type HealthFacts,
  LAG_SECONDS_MAX,
  type PeerFacts,
  type ReportedFacts,
} from "./health-facts.ts";
import { chainOf, type PeerEntry, type Role, roleOf, type ShardState, shortName } from "./state.ts";

interface Subject {
  readonly facts: HealthFacts;
  readonly state: ShardState;
  readonly peer: PeerEntry;
  readonly role: Role;
  readonly label: string;
  readonly present: boolean;
  readonly found: Finding[];
}

export function checkPeer(facts: HealthFacts, state: ShardState, peer: PeerEntry, found: Finding[]): void {
  const role = roleOf(state, peer.id);
  const present = facts.election.some((entry) => entry.peer.id === peer.id);
  const subject: Subject = { facts, state, peer, role, label: `peer "${shortName(peer)}"`, present, found };
  const known = facts.peers[peer.id];
  checkPresence(subject, known);
  if (role === "deposed") checkDeposed(subject, known?.report);
  if (known?.report === undefined) return;
  checkBelonging(subject, known.report);
  if (role === "primary") checkPrimary(subject, known.report);
  else checkStandby(subject, known.report);
  checkCommon(subject, known.report);
}

function add(
  subject: Subject,
  severity: Finding["severity"],
  message: string,
  remedy: string,
  rule?: Finding["rule"],
): void {
  subject.found.push(
    finding(severity, message, remedy, { peer: subject.peer.id, ...(rule === undefined ? {} : { rule }) }),
  );
}

function checkPresence(subject: Subject, known: PeerFacts | undefined): void {
  const { role, label, present } = subject;
  const serious = role === "primary" ? "error" : "warning";
  if (!present && role !== "deposed") {
    const remedy = {
      primary: bothLost(subject) ? WITHOUT_BOTH : "start its sitter; the sync takes over otherwise",
      sync: bothLost(subject) ? WITHOUT_BOTH : "start its sitter; the primary names another sync otherwise",
      async: "start its sitter; it leaves the list otherwise",
    };
    add(
      subject,
      serious,
      `${label} (${role}) is not in the election`,
      remedy[role as "primary" | "sync" | "async"],
      role === "async" ? "A2" : "D1",
    );
  }
  if (known === undefined || known.sitter === "answers") return;
  const severity = role === "deposed" ? "note" : serious;
  const sitter = {
    refused: "its sitter refuses the connection",
    silent: "its sitter doesn't answer",
    stranger: "something that is no sitter of this version answers on its status port",
  }[known.sitter];
  const port =
    known.postgresPort === undefined
      ? ""
      : `; its PostgreSQL's port ${{ open: "is open", refused: "refuses", silent: "doesn't answer" }[known.postgresPort]}`;
  const place = role === "primary" ? "cannot query postgres on primary: " : "";
  add(
    subject,
    severity,
    `${place}${label}: ${sitter}${port}`,
    "check that host, its sitter, and the way from here to the port after PostgreSQL's",
    "D1",
  );
}

const WITHOUT_BOTH =
  "start the sitter of primary or sync: with neither nobody takes over; if both are lost for good, see docs/operating/primary-and-sync-lost.md";

function bothLost({ facts, state }: Subject): boolean {
  const present = (peer: PeerEntry) => facts.election.some((entry) => entry.peer.id === peer.id);
  return state.sync !== null && !present(state.primary) && !present(state.sync);
}

function checkDeposed(subject: Subject, report: ReportedFacts | undefined): void {
  const doing = report === undefined ? "" : `: ${report.decision.because}`;
  const remedy =
    report?.decision.operator ??
    (subject.present
      ? "wait while it rejoins; otherwise run manatee-adm rebuild on its host"
      : "start its sitter, or, if the peer is gone for good, run manatee-adm reap");
  add(subject, "warning", `${subject.label} is deposed${doing}`, remedy, "R1");
}

function checkBelonging(subject: Subject, report: ReportedFacts): void {
  const { label, peer, role, state } = subject;
  const named = role === "primary" || role === "sync";
  if (peer.incarnation !== undefined && report.incarnation !== peer.incarnation && role !== "deposed")
    add(
      subject,
      named ? "error" : "warning",
      `${label} (${role}) holds other data than the state names: incarnation ${report.incarnation ?? "none"}, not ${peer.incarnation}`,
      role === "sync"
        ? "wait: the primary names it anew once it has caught up"
        : "if the data were put back from elsewhere, see docs/operating/wrong-incarnation.md",
      "S1",
    );
  if (
    state.systemIdentifier !== undefined &&
    report.systemIdentifier !== null &&
    report.systemIdentifier !== state.systemIdentifier
  )
    add(
      subject,
      "error",
      `${label} holds another database: system identifier ${report.systemIdentifier}, not ${state.systemIdentifier}`,
      "stop its sitter, move its data directory away, and let it copy",
      "B1",
    );
  if (report.generation !== null && report.generation < state.generation)
    add(
      subject,
      "warning",
      `${label} knows generation ${report.generation} only, not ${state.generation}`,
      "check its connection to the coordination store",
      "Z1",
    );
  if (!report.store.connected)
    add(
      subject,
      "warning",
      `${label} is cut off from the coordination store`,
      "check the store, and the way to it from that host",
      "Z1",
    );
}

function checkPrimary(subject: Subject, report: ReportedFacts): void {
  const { label, state } = subject;
  const { postgres, decision } = report;
  if (!postgres.healthy)
    add(
      subject,
      "error",
      `cannot query postgres on primary: ${label}: ${postgres.error ?? `its PostgreSQL is ${postgres.state}`}`,
      decision.operator ?? waitFor(report),
      "T2",
    );
  else if (postgres.state !== "primary")
    add(
      subject,
      "error",
      `${label} is named primary, and its PostgreSQL is ${postgres.state}`,
      decision.operator ?? waitFor(report),
      "RESUME",
    );
  else if (postgres.gate !== "open")
    add(
      subject,
      "error",
      `the primary, ${label}, admits no clients yet: ${decision.because}`,
      decision.operator ?? waitFor(report),
      "P1",
    );
  if (state.sync !== null) checkSyncStreams(subject, report);
}

function checkSyncStreams(subject: Subject, report: ReportedFacts): void {
  const { state } = subject;
  const sync = state.sync as PeerEntry;
  const row = rowOf(report, sync);
  const label = `peer "${shortName(sync)}"`;
  const counts = row?.["state"] === "streaming" && (row["sync_state"] === "sync" || row["sync_state"] === "quorum");
  checkWaiting(subject, report, counts);
  if (row === undefined || row["state"] !== "streaming")
    add(
      subject,
      "error",
      `${subject.label}: downstream replication peer not connected: the sync, ${label}, ${row === undefined ? "does not stream" : `is in state ${row["state"]}`}, and commits wait`,
      `${waitFor(report)}; see docs/operating/sync-missing.md`,
      "S1",
    );
  else if (row["sync_state"] !== "sync" && row["sync_state"] !== "quorum")
    add(
      subject,
      "error",
      `${subject.label}: expected downstream replication to be "sync", found "${row["sync_state"] ?? "nothing"}"`,
      waitFor(report),
      "S1",
    );
  if (report.postgres.state === "primary" && report.postgres.syncNames?.length === 0)
    add(
      subject,
      "error",
      `${subject.label} waits for no standby, though the state names a sync`,
      "stop writes, and find out who changed synchronous_standby_names",
      "S1",
    );
}

function checkStandby(subject: Subject, report: ReportedFacts): void {
  const { label, role } = subject;
  const { postgres, decision } = report;
  if (role === "deposed") return;
  const serious = role === "sync" ? "error" : "warning";
  if (!postgres.healthy)
    add(
      subject,
      serious,
      `cannot query postgres: ${label}: ${postgres.error ?? `its PostgreSQL is ${postgres.state}`}`,
      decision.operator ?? waitFor(report),
    );
  else if (postgres.state === "primary")
    add(
      subject,
      "error",
      `${label} is named ${role}, and its PostgreSQL is a primary`,
      decision.operator ?? "see its sitter's log",
    );
  else if (postgres.receiver !== "streaming")
    add(
      subject,
      serious,
      `${label} (${role}) does not receive: its receiver is ${postgres.receiver ?? "unknown"}`,
      decision.operator ?? waitFor(report),
      "A1",
    );
  if (postgres.lagSeconds !== null && postgres.lagSeconds > LAG_SECONDS_MAX)
    add(
      subject,
      "warning",
      `${label} (${role}) is ${Math.round(postgres.lagSeconds)} s behind`,
      "see whether a long query or a slow disk holds its replay up",
    );
}

function checkCommon(subject: Subject, report: ReportedFacts): void {
  const { label, role } = subject;
  const { postgres, decision } = report;
  if (decision.operator !== null && role !== "deposed" && postgres.healthy)
    add(subject, "warning", `${label} waits for an operator: ${decision.because}`, decision.operator);
  for (const warning of postgres.warnings)
    add(
      subject,
      "warning",
      `${label}: ${warning}`,
      "correct that, or know it: docs/protocol.md, outside of the promises",
    );
  checkDoubts(subject, report);
  const full = report.forksKeptMax != null && postgres.forksKept >= report.forksKeptMax;
  if (postgres.forksKept > 0)
    add(
      subject,
      full ? "warning" : "note",
      `${label} keeps ${postgres.forksKept} fork${postgres.forksKept === 1 ? "" : "s"} of former WAL${full ? `, and policy.forksKeptMax is ${report.forksKeptMax}: where the next one has to be kept, it waits for an operator` : ""}`,
      "on its host, manatee-adm diverged lists them, and removes with --drop what nobody needs",
      "R1",
    );
}

/** Commits that are visible here, and that a takeover would lose. */
function checkDoubts(subject: Subject, report: ReportedFacts): void {
  const { label } = subject;
  const { cancelledWaits, inDoubt } = report.postgres;
  if (inDoubt !== null)
    add(
      subject,
      "warning",
      `${label}: commits ${inDoubt.upTo === null ? "" : `up to ${inDoubt.upTo} `}gave up waiting for the sync, are visible and not safe yet: ${
        inDoubt.upTo === null ? "where they end is not known yet" : syncBehind(subject, report, inDoubt.upTo)
      }`,
      "take none of them for done until the sync has them, which a takeover would lose; see docs/operating/commits-in-doubt.md",
      "S1",
    );
  if (cancelledWaits > 0)
    add(
      subject,
      "note",
      `${label}: ${cancelledWaits} commit${cancelledWaits === 1 ? "" : "s"} gave up waiting for the sync since its start; ${cancelledWaits === 1 ? "its client was" : "their clients were"} told so by a warning only`,
      "find out who cancels queries or ends sessions while commits wait; the sitter does when it shuts clients out (X1, T3)",
      "S1",
    );
}

/** How far the primary's WAL is ahead of what its sync has flushed, while commits wait for that. They always do for a moment. */
function checkWaiting(subject: Subject, report: ReportedFacts, syncCounts: boolean): void {
  const { waitingCommits, walEnd } = report.postgres;
  if (waitingCommits === null || waitingCommits === 0 || walEnd === null) return;
  add(
    subject,
    syncCounts ? "note" : "warning",
    `${subject.label}: ${waitingCommits} commit${waitingCommits === 1 ? " waits" : "s wait"} for the sync, with WAL up to ${walEnd}: ${syncBehind(subject, report, walEnd)}`,
    "don't cancel these waits: each would leave a commit that is visible and not safe; see docs/operating/commits-in-doubt.md",
    "S1",
  );
}

function syncBehind({ state }: Subject, report: ReportedFacts, position: string): string {
  if (state.sync === null) return "there is no sync";
  const flushed = parseLsn(rowOf(report, state.sync)?.["flush_location"] ?? "");
  if (flushed === undefined) return "what the sync has flushed is not known";
  const short = (parseLsn(position) ?? flushed) - flushed;
  return `the sync has flushed up to ${formatLsn(flushed)}${short > 0n ? `, ${short} bytes less` : ""}`;
}

/** The walsender of that peer: by its name, which is its pgUrl. */
export function rowOf(report: ReportedFacts, peer: PeerEntry): Readonly<Record<string, string | null>> | undefined {
  const rows = report.postgres.replication.filter(
    (row) => row["application_name"] === peer.pgUrl && row["state"] !== "backup",
  );
  return rows.find((row) => row["state"] === "streaming") ?? rows[0];
}

/** The next peer of the chain; undefined for the last one, and for the deposed. */
export function downstreamOf(state: ShardState, peer: PeerEntry): PeerEntry | undefined {
  const chain = chainOf(state);
  const at = chain.findIndex(({ id }) => id === peer.id);
  return at < 0 ? undefined : chain[at + 1];
}

function waitFor({ decision }: ReportedFacts): string {
  return decision.waitingOn === null ? "see its sitter's log" : `wait for ${decision.waitingOn}`;
}
