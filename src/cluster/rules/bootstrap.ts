// B1: no state document. Either the shard is new, and the peer with the lowest election node founds it; or the document was lost, and nobody guesses.

import { isoTime } from "../../base/text.ts";
import { isFounding, type ElectionEntry, markOf, type Observation } from "../observation.ts";
import type { Memory } from "../decision.ts";
import { NEUTRAL } from "../desired-postgres.ts";
import { attempt, entryFrom, SOON_MS, type Step } from "../step.ts";
import { FREEZE_OF_MODE, type ShardState } from "../state.ts";
import { compareAsFounder, compareAsSync } from "../tags.ts";

const RESTORE = "manatee-adm state restore";

export function decideWithoutState(obs: Observation, memory: Memory): Step {
  const { data } = obs.postgres;
  const mark = markOf(data);
  const founding = isFounding(mark, undefined);
  // Adopted data stays what it was until a document names it: others wait for it, and it founds the shard.
  const adopted = founding && mark?.adopted === true;
  const foreign = data.kind === "present" && (mark === undefined || adopted);
  if (obs.store.connection.kind !== "connected")
    return { rule: "Z1", because: "no state document was read yet", waitingOn: "the coordination store" };
  if (mark && !founding)
    return hold(
      "this peer holds data of the shard, and the state document is gone: nobody guesses",
      "an operator, who chooses the document to restore",
      RESTORE,
    );
  const marked = obs.store.election.filter((entry) => entry.announcement?.data === "marked");
  if (marked.length > 0)
    return hold(
      `${ids(marked)} holds data of this shard, and the state document is gone: nobody guesses`,
      "an operator, who chooses the document to restore",
      RESTORE,
    );
  if (data.kind === "unusable" && !founding)
    return hold(`the data directory can't be used: ${data.message}`, data.hint, data.hint);
  if (foreign && !adopted && !obs.policy.adoptData)
    return hold(
      "there is a database here that bears no shard's mark",
      "an operator",
      "set adoptData in this peer's configuration, or empty its data directory",
    );
  return found(obs, memory, foreign);
}

function found(obs: Observation, memory: Memory, adopts: boolean): Step {
  const eligible = obs.store.election.filter((entry) => entry.announcement !== undefined);
  const self = eligible.find((entry) => entry.peer.id === obs.self.id);
  if (!self)
    return {
      rule: "B1",
      because: "this peer is not in the election yet",
      waitingOn: "its own election node",
      lookAgainAfterMs: SOON_MS * 4,
    };
  const alone = obs.policy.oneNodeWriteMode;
  if (!alone && eligible.length < obs.policy.bootstrapPeersMin)
    return {
      rule: "B1",
      because: `a new shard, with ${eligible.length} of at least ${obs.policy.bootstrapPeersMin} peers present`,
      waitingOn: "more peers",
    };
  const foreign = eligible.filter((entry) => entry.announcement?.data === "foreign");
  if (foreign.length > 1 || (foreign.length === 1 && !adopts))
    return adopts
      ? {
          rule: "B1",
          because: `${ids(foreign)} hold data without a shard's mark`,
          waitingOn: "an operator",
          operator: "leave data on one of them only",
        }
      : {
          rule: "B1",
          because: `${ids(foreign)} holds data, and founds the shard if it is configured to adopt it`,
          waitingOn: `generation 1 from ${ids(foreign)}`,
        };
  const founder = adopts ? self : founderOf(eligible);
  if (founder.peer.id !== obs.self.id)
    return {
      rule: "B1",
      because: `a new shard; ${founder.peer.id} ${byWhat(eligible)} and founds it`,
      waitingOn: `generation 1 from ${founder.peer.id}`,
    };
  return buildAndDeclare(obs, memory, eligible);
}

/** By the tags; of those that are alike the lowest election node. A better one that comes later founds it instead: whose generation 1 is written first counts. */
function founderOf(eligible: readonly ElectionEntry[]): ElectionEntry {
  const [first] = [...eligible].sort((a, b) => compareAsFounder(a.announcement?.tags, b.announcement?.tags));
  return first as ElectionEntry;
}

function byWhat(eligible: readonly ElectionEntry[]): string {
  return founderOf(eligible) === eligible[0] ? "has the lowest election node" : "comes first by its tags";
}

/** Data, then a server, then generation 1, in this order: the document says where its WAL begins. */
function buildAndDeclare(obs: Observation, memory: Memory, eligible: readonly ElectionEntry[]): Step {
  const { data, server, job } = obs.postgres;
  const because = `a new shard, and this peer ${byWhat(eligible)}`;
  if (job) return { rule: "B1", because, waitingOn: job.kind, lookAgainAfterMs: SOON_MS * 4 };
  if (data.kind === "unusable" && data.mark?.adopted)
    return hold(`the adopted database can't be used: ${data.message}`, "an operator", data.hint);
  if (data.kind === "none" || data.kind === "unusable")
    return attempt(obs, { rule: "B1", because, action: { kind: "initdb", incarnation: obs.nonce } });
  if (data.mark === undefined)
    return attempt(obs, {
      rule: "B1",
      because: "this peer's data is adopted, as configured",
      action: { kind: "adopt-data", incarnation: obs.nonce },
    });
  switch (server.kind) {
    case "stopped":
      return attempt(obs, {
        rule: "B1",
        because,
        action: { kind: "start", as: "primary", settings: NEUTRAL, unfinishedTimeline: undefined },
      });
    case "starting":
    case "unresponsive":
      return { rule: "B1", because, waitingOn: "PostgreSQL to accept connections", lookAgainAfterMs: SOON_MS };
    case "standby":
      return hold(
        "the data to found the shard with is a standby's",
        "an operator",
        "restore a primary's data, or empty the data directory",
      );
    case "primary": {
      if (
        memory.sent &&
        obs.store.lastWrite?.token === memory.sent.token &&
        obs.store.lastWrite.outcome !== "no" &&
        obs.now - memory.sent.at < obs.policy.suspectMs
      )
        return {
          rule: "B1",
          because: "generation 1 is written",
          waitingOn: "the state to be read back",
          lookAgainAfterMs: SOON_MS,
        };
      const state = firstState(obs, eligible, {
        timeline: server.wal.timeline,
        end: server.wal.end,
        systemIdentifier: data.systemIdentifier,
        incarnation: data.mark.incarnation,
      });
      const token = `B1:${obs.nonce}`;
      return {
        rule: "B1",
        because: state.reason,
        action: { kind: "write", state, version: undefined, token },
        memory: { sent: { version: -1, token, what: "other", rule: "B1", at: obs.now, doubtful: false } },
      };
    }
    default:
      return server satisfies never;
  }
}

function firstState(
  obs: Observation,
  eligible: readonly ElectionEntry[],
  own: { timeline: number; end: ShardState["initWal"]; systemIdentifier: string; incarnation: string },
): ShardState {
  const alone = obs.policy.oneNodeWriteMode;
  const compare = compareAsSync(obs.tags);
  const others = alone
    ? []
    : eligible
        .filter((entry) => entry.peer.id !== obs.self.id)
        .sort((a, b) => compare(a.announcement?.tags, b.announcement?.tags))
        .map((entry) => entryFrom(entry.peer, entry.announcement?.incarnation));
  const [sync = null, ...asyncs] = others;
  return {
    generation: 1,
    primary: entryFrom(obs.self, own.incarnation),
    sync,
    async: asyncs,
    deposed: [],
    initWal: own.end,
    initTimeline: own.timeline,
    provisional: false,
    timeline: own.timeline,
    highestTimeline: own.timeline,
    systemIdentifier: own.systemIdentifier,
    freeze: alone ? { date: isoTime(obs.wallMs), reason: FREEZE_OF_MODE.asked } : undefined,
    promote: undefined,
    malformedPromote: undefined,
    oneNodeWriteMode: alone,
    rule: "B1",
    reason: alone
      ? "a new shard of one peer, as configured"
      : `a new shard of ${others.length + 1} peers, founded by the ${founderOf(eligible) === eligible[0] ? "lowest election node" : "peer that comes first by its tags"}`,
    written: undefined,
    requires: ["incarnations"],
    extra: {},
  };
}

function hold(because: string, waitingOn: string, operator: string): Step {
  return { rule: "B1", because, waitingOn, operator };
}

function ids(entries: readonly ElectionEntry[]): string {
  return entries.map((entry) => entry.peer.id).join(", ");
}
