// The verdict on a shard from outside: what `manatee-adm verify` says. Pure: facts in, findings out, each with what to do about it.
// Nothing here is a precondition of a change; those are in the rules.

import { formatLsn } from "../base/lsn.ts";
import { isOriginals } from "./codec.ts";
import { type Finding, finding, type HealthFacts, type Severity } from "./health-facts.ts";
import { checkPeer } from "./health-peer.ts";
import { checkTags } from "./health-tags.ts";
import { checkState } from "./invariants.ts";
import type { ElectionEntry } from "./observation.ts";
import { entryOf, membersOf, type ShardState, shortName } from "./state.ts";

/** ZooKeeper answers with at most 1 MB: about 30,000 names. */
const HISTORY_ENTRIES_MAX = 10_000;

/** Errors first; within a severity in the order of the chain. */
export function judgeHealth(facts: HealthFacts): readonly Finding[] {
  const found: Finding[] = [];
  if (facts.view.kind === "absent") checkAbsent(facts, found);
  else if (facts.view.kind === "unreadable")
    found.push(finding("error", `the state document can't be used: ${facts.view.message}`, facts.view.hint));
  else {
    checkDocument(facts, facts.view.state, found);
    for (const peer of membersOf(facts.view.state)) checkPeer(facts, facts.view.state, peer, found);
    checkTags(facts, facts.view.state, found);
    checkStrangers(facts, facts.view.state, found);
  }
  checkStore(facts, found);
  const order: readonly Severity[] = ["error", "warning", "note"];
  return order.flatMap((severity) => found.filter((each) => each.severity === severity));
}

function checkAbsent({ election, peers }: HealthFacts, found: Finding[]): void {
  const holders = election.filter(({ peer, announcement }) => {
    const report = peers[peer.id]?.report;
    return announcement?.data === "marked" || (report?.lastDocument !== undefined && report.lastDocument !== null);
  });
  if (holders.length > 0)
    found.push(
      finding(
        "error",
        `there is no state document, but ${names(holders)} hold${holders.length === 1 ? "s" : ""} this shard's data`,
        "find out why the document is gone, then write one back with manatee-adm state restore",
        { rule: "B1" },
      ),
    );
  else if (election.length > 0)
    found.push(
      finding(
        "error",
        `there is no state document; present: ${names(election)}`,
        "wait until enough peers are present to found the shard; each sitter's log says what it waits for",
        { rule: "B1" },
      ),
    );
  else
    found.push(
      finding("error", "there is no state document and no peer", "check the shard's name, and start the sitters", {
        rule: "B1",
      }),
    );
}

function checkDocument({ wallMs, view }: HealthFacts, state: ShardState, found: Finding[]): void {
  const mend =
    "look at manatee-adm zk-state and manatee-adm history -v; write a good one with manatee-adm state restore";
  // Without a sync and without the mode: a sync is to be named (O1), which checkModes tells better.
  const toBeNamed = state.sync === null && !state.oneNodeWriteMode;
  for (const { rule, message } of checkState(state))
    if (!toBeNamed || rule !== "sync")
      found.push(finding("error", `the state document breaks a rule: ${message}`, mend));
  if (isOriginals(state))
    found.push(
      finding(
        "warning",
        "the state document was written by the original Manatee",
        "start this version's sitter on every peer; the primary's makes the document its own",
      ),
    );
  if (view.kind === "document" && state.written !== undefined && state.written.version !== view.version)
    found.push(
      finding(
        "note",
        `the last change (version ${view.version}) was made by a program of the original Manatee`,
        "nothing; rule and reason are those of the change before",
      ),
    );
  checkModes(state, found);
  checkRequest(state, wallMs, found);
  if (state.provisional)
    found.push(
      finding(
        "warning",
        `generation ${state.generation} is provisional: the takeover is not complete`,
        "wait until the new primary's sync has the new timeline",
        { rule: "T1" },
      ),
    );
  if (state.sync !== null && state.async.length === 0)
    found.push(
      finding("warning", "there is no async: if a peer is lost, writes stop until one is back", "start a third peer", {
        rule: "T1",
      }),
    );
}

const FREEZE_BESIDE_MODE =
  "one-node-write mode freezes it as well: manatee-adm set-onwm -m off ends it, and the freeze that came with it; manatee-adm unfreeze ends one of your own";

function checkModes({ sync, oneNodeWriteMode, freeze }: ShardState, found: Finding[]): void {
  const O1 = { rule: "O1" } as const;
  if (oneNodeWriteMode && sync === null)
    found.push(
      finding(
        "warning",
        "one-node-write mode: commits wait for no second peer, and losing this one loses data",
        "add a peer, then run manatee-adm set-onwm -m off",
        O1,
      ),
    );
  if (oneNodeWriteMode && sync !== null)
    found.push(
      finding(
        "warning",
        "one-node-write mode is requested beside a sync; the sync stays required until the primary has written it",
        "wait, or take it back with manatee-adm set-onwm -m off",
        O1,
      ),
    );
  if (!oneNodeWriteMode && sync === null)
    found.push(
      finding(
        "warning",
        "one-node-write mode has ended, and there is no sync yet",
        "start a second peer; the primary names it once it has caught up",
        O1,
      ),
    );
  if (freeze === undefined) return;
  const { date, reason } = freeze;
  const ofMode = oneNodeWriteMode && sync === null;
  const told = [date === undefined ? "" : ` since ${date}`, reason === undefined ? "" : `: ${reason}`].join("");
  found.push(
    finding(
      "warning",
      `the shard is frozen${told}; nobody takes over`,
      ofMode ? FREEZE_BESIDE_MODE : "run manatee-adm unfreeze when the work is done",
      { rule: "F1" },
    ),
  );
}

function checkRequest({ promote, malformedPromote }: ShardState, wallMs: number, found: Finding[]): void {
  const T3 = { rule: "T3" } as const;
  if (malformedPromote !== undefined)
    found.push(
      finding(
        "warning",
        "the state document holds a promote request that is none",
        "run manatee-adm clear-promote",
        T3,
      ),
    );
  if (promote === undefined) return;
  const what = `a request to promote ${promote.id} (${promote.role})`;
  if (Date.parse(promote.expireTime) > wallMs)
    found.push(finding("warning", `${what} is pending until ${promote.expireTime}`, "wait for its end", T3));
  else
    found.push(
      finding(
        "warning",
        `${what} expired at ${promote.expireTime} and is still there`,
        "run manatee-adm clear-promote",
        T3,
      ),
    );
}

/** Peers that are present and stand nowhere in the state. */
function checkStrangers({ election, peers }: HealthFacts, state: ShardState, found: Finding[]): void {
  for (const { peer, announcement } of election) {
    if (entryOf(state, peer.id) !== undefined) continue;
    const decision = peers[peer.id]?.report?.decision;
    const about = { peer: peer.id } as const;
    const why =
      decision === undefined
        ? ""
        : `: ${decision.because}${decision.waitingOn === null ? "" : `, waiting for ${decision.waitingOn}`}`;
    if (announcement === undefined)
      found.push(
        finding(
          "warning",
          `peer "${shortName(peer)}" runs a sitter of the original Manatee; it never gets into the chain`,
          "upgrade its sitter",
          about,
        ),
      );
    else
      found.push(
        finding(
          "warning",
          `peer "${shortName(peer)}" is present and has no role yet${why}`,
          decision?.operator ?? "wait until it follows, or see its sitter's log",
          { ...about, rule: "A1" },
        ),
      );
  }
}

function checkStore(facts: HealthFacts, found: Finding[]): void {
  const reports = Object.values(facts.peers).flatMap(({ report }) => report ?? []);
  if (facts.evaluationOnly || reports.some(({ store }) => store.evaluationOnly))
    found.push(
      finding(
        "warning",
        "the coordination store is the embedded one, for evaluation only",
        "use ZooKeeper in production",
      ),
    );
  if (reports.some(({ store }) => store.openToAll === true))
    found.push(
      finding(
        "warning",
        "the shard's nodes in the coordination store are open to all: whoever reaches it can rewrite the state",
        "configure zkCfg.digest on every peer",
      ),
    );
  if (facts.historyEntries > HISTORY_ENTRIES_MAX)
    found.push(
      finding(
        "warning",
        `the history has ${facts.historyEntries} entries; past about 30000 ZooKeeper can't list them`,
        "let the primary's sitter trim it (historyKept), or find out what writes so often",
      ),
    );
  const identifiers = new Map<string, string[]>();
  for (const [id, { report }] of Object.entries(facts.peers))
    if (report?.systemIdentifier != null)
      identifiers.set(report.systemIdentifier, [...(identifiers.get(report.systemIdentifier) ?? []), id]);
  if (identifiers.size > 1)
    found.push(
      finding(
        "error",
        `peers hold different databases: ${[...identifiers].map(([identifier, ids]) => `${identifier} (${ids.join(", ")})`).join(", ")}`,
        "empty the data directory of the peers that don't belong here, and let them copy",
        { rule: "B1" },
      ),
    );
}

function names(entries: readonly ElectionEntry[]): string {
  return entries.map(({ peer }) => `"${shortName(peer)}"`).join(", ");
}

/** `3 (0/174C4C8)` */
export function describeGeneration(state: ShardState): string {
  return `${state.generation} (${formatLsn(state.initWal)})`;
}
