// A running primary, on the claimed timeline: fence after a restart, amend, the gate (P1), switchover (T3), S1, the list of asyncs (A1/A2), isolation (X1), one-node-write (O1).

import { type Lsn, maxLsn } from "../../base/lsn.ts";
import { isoTime } from "../../base/text.ts";
import { requiredHold, requiredNames, strayWalsender, syncQualified } from "../desired-postgres.ts";
import type { PostgresSettings } from "../observation.ts";
import {
  electionEntryOf,
  connected,
  entryFrom,
  fenceStep,
  FORCE_TAKEOVER_ELSEWHERE,
  IDLE_MS,
  type PrimaryScene,
  SOON_MS,
  type Step,
  streamsFrom,
  waited,
  walsenderOf,
  writeStep,
} from "../step.ts";
import { FREEZE_OF_MODE, isFrozen, type PeerEntry } from "../state.ts";
import { compareAsSync } from "../tags.ts";
import { isolationStep } from "./isolation.ts";
import { findCandidate, joinable, reasonToLeave, reasonToReplace, replaceSync, resolveSent } from "./replace-sync.ts";
import { clearFrozenRequest, handOver, requestStep } from "./switchover.ts";

export function serve(scene: PrimaryScene): Step {
  const { memory, state, server } = scene;
  // What the server is to have, once the version is raised; until then it keeps what is found.
  const settings: PostgresSettings = { syncNames: requiredNames(scene), gate: gateOf(scene), upstream: null };
  const isolated = isolationStep(scene, memory.fenced ? settings : server.settings);
  if (isolated) return isolated;
  if (!memory.fenced) return fenceFirst(scene);
  const pending = resolveSent(scene, settings);
  if (pending) return pending;
  if (memory.handingOver) return handOver(scene, settings);
  if (server.settings.gate === "closed" && server.clientSessions > 0)
    return {
      rule: "P1",
      because: "sessions that were open before are ended, since the gate is closed",
      settings: { ...settings, gate: "closed" },
      action: { kind: "end-clients" },
      lookAgainAfterMs: SOON_MS,
    };
  if (state.provisional) {
    const amended = amend(scene, settings);
    if (amended) return amended;
  }
  // What the flag asks for, an operator asked for: a freeze does not hold it up.
  if (state.oneNodeWriteMode && state.sync) return beginOneNodeWrite(scene, settings);
  if (isFrozen(state)) {
    if (memory.replacing)
      return giveUpReplacing(scene, "the shard was frozen before the other sync was named", settings);
    const cleared = clearFrozenRequest(scene, settings);
    if (cleared) return cleared;
  } else {
    const changed = changeShard(scene, settings);
    if (changed) return changed;
  }
  return ordinary(scene, settings);
}

/** After a restart of the sitter everything is left as it is found, until a version of its own has ended whatever is under way. */
function fenceFirst(scene: PrimaryScene): Step {
  return fenceStep(scene, "this primary's sitter has started anew");
}

/** The changes that a frozen shard does not make (F1); undefined: there is nothing to change. */
function changeShard(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { state } = scene;
  const requested = requestStep(scene, settings);
  if (requested) return requested;
  if (state.oneNodeWriteMode) return undefined;
  const reason = reasonToReplace(scene);
  // A sync that only gives way to a better one does its part meanwhile: nothing waits for the other to come.
  if (reason !== undefined && (reasonToLeave(scene) !== undefined || findCandidate(scene)))
    return replaceSync(scene, reason, settings);
  if (scene.memory.replacing)
    return giveUpReplacing(scene, "the sync is back before the other one was named", settings);
  return state.provisional ? undefined : changeAsyncs(scene, settings);
}

/** Nothing was written yet: it may simply be given up. */
function giveUpReplacing(scene: PrimaryScene, because: string, settings: PostgresSettings): Step {
  const alone = { ...scene, memory: { ...scene.memory, replacing: undefined } };
  return {
    rule: "S1",
    because,
    settings: { ...settings, syncNames: requiredNames(alone) },
    memory: { replacing: undefined },
    lookAgainAfterMs: SOON_MS,
  };
}

// --- P1

/** A gate that is open stays open, also when the sync is lost: commits wait then by themselves. Only handing over closes it here, and X1 (isolation.ts). */
function gateOf(scene: PrimaryScene): PostgresSettings["gate"] {
  const { server, memory } = scene;
  // T3: clients go on until the checkpoint is done that shortens the shutdown.
  if (memory.handingOver?.checkpointed) return "closed";
  return server.settings.gate === "open" || mayOpen(scene) === undefined ? "open" : "closed";
}

/** undefined: a gate that is closed may open to clients; otherwise what that waits for. */
function mayOpen(scene: PrimaryScene): string | undefined {
  const { state, server, memory, obs } = scene;
  if (state.provisional) return "the state to be amended with the beginning of the new timeline";
  if (!memory.fenced) return "the version to be raised";
  if (!server.commitsWait) return "the checkpointer, which makes commits wait";
  if (server.clientSessions > 0) return "sessions that were open before to end";
  if (state.sync === null) return state.oneNodeWriteMode ? undefined : "a sync to be named";
  if (
    electionEntryOf(obs, state.sync.id)?.announcement?.incarnation !== state.sync.incarnation ||
    state.sync.incarnation === undefined
  )
    return `the sync ${state.sync.id} under the incarnation that the state names`;
  // What is here now, not only what was recovered: sessions that X1 or T3 ended may have left commits that the sync lacks.
  if (!requiredHold(scene, maxLsn(server.recoveredEnd, server.wal.end)) || strayWalsender(scene))
    return `${state.sync.id} to hold all that this primary recovered`;
  return undefined;
}

/**
 * T1.6: writes where the new timeline begins, once the heir has flushed past it; until then this waits. undefined: the heir is lost, and another rule
 * (S1, or O1) ends the provisional state.
 */
function amend(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { state, server, obs } = scene;
  const begin = beginOf(scene);
  if (begin < state.initWal)
    return {
      rule: "T1",
      because: `timeline ${server.wal.timeline} begins before what this peer held when it claimed it: its WAL is damaged`,
      settings,
      waitingOn: "an operator",
      operator: FORCE_TAKEOVER_ELSEWHERE,
    };
  const base = {
    rule: "T1",
    because: `timeline ${server.wal.timeline} has begun`,
    settings,
    lookAgainAfterMs: SOON_MS / 2,
  } as const;
  const heir = state.sync;
  if (heir) {
    const found = electionEntryOf(obs, heir.id)?.announcement;
    const flushed = walsenderOf(server, heir)?.flush;
    // Past the beginning, not just up to it: up to there the WAL is the old timeline's, which the heir has held since the claim.
    const holds =
      found?.incarnation === heir.incarnation &&
      streamsFrom(server, heir) &&
      flushed !== undefined &&
      flushed > begin &&
      requiredHold(scene, begin + 1n);
    if (!holds) {
      const frozen = isFrozen(state);
      if (state.oneNodeWriteMode || (reasonToReplace(scene) !== undefined && !frozen)) return undefined;
      return {
        ...base,
        waitingOn: `${heir.id} to hold the beginning of timeline ${server.wal.timeline}`,
        ...(frozen && { operator: "manatee-adm unfreeze" }),
      };
    }
  }
  return writeStep(
    scene,
    "other",
    {
      ...state,
      initWal: begin,
      initTimeline: server.wal.timeline,
      timeline: server.wal.timeline,
      highestTimeline: Math.max(state.highestTimeline, server.wal.timeline),
      provisional: false,
    },
    { ...base, because: `${base.because}${heir ? `, and ${heir.id} holds its beginning` : ""}` },
  );
}

/** Where the present timeline begins: where the one before it ends. */
function beginOf(scene: PrimaryScene): Lsn {
  return scene.server.wal.past.at(-1)?.end ?? scene.server.recoveredEnd;
}

// --- A1, A2, O1

function changeAsyncs(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { state, obs, server } = scene;
  if (!connected(obs)) return undefined;
  const joins = obs.store.election.filter((entry) => joinable(scene, entry));
  const renewed = state.async.map((peer) => {
    const entry = joins.find(({ peer: { id } }) => id === peer.id);
    return entry ? entryFrom(entry.peer, entry.announcement?.incarnation, peer) : peer;
  });
  const added = joins
    .filter(({ peer }) => !state.async.some(({ id }) => id === peer.id))
    .sort((a, b) => compareAsSync(obs.tags)(a.announcement?.tags, b.announcement?.tags))
    .map(({ peer, announcement }) => entryFrom(peer, announcement?.incarnation));
  const settled = obs.now - obs.store.connection.since >= obs.store.sessionTimeoutMs;
  const left = settled
    ? state.async.filter((peer) => !electionEntryOf(obs, peer.id) && !streamsFrom(server, peer))
    : [];
  if (joins.length === 0 && left.length === 0) return undefined;
  const async = [
    ...renewed.filter((peer) => !left.includes(state.async.find(({ id }) => id === peer.id) as PeerEntry)),
    ...added,
  ];
  const names = (peers: readonly { id: string }[]): string => peers.map(({ id }) => id).join(", ");
  const because = [
    ...(joins.length > 0 ? [`${names(joins.map(({ peer }) => peer))} follows the shard`] : []),
    ...(left.length > 0 ? [`${names(left)} has left`] : []),
  ].join("; ");
  const deposed = state.deposed.filter(({ id }) => !joins.some(({ peer }) => peer.id === id));
  return writeStep(
    scene,
    "other",
    { ...state, async, deposed },
    { rule: joins.length > 0 ? "A1" : "A2", because, settings },
  );
}

/** O1: the flag beside a sync is a request; the sync stays required until the document is written without it. */
function beginOneNodeWrite(scene: PrimaryScene, settings: PostgresSettings): Step {
  const { state, server } = scene;
  return writeStep(
    scene,
    "other",
    {
      ...state,
      generation: state.generation + 1,
      sync: null,
      async: [],
      initWal: server.wal.end,
      initTimeline: server.wal.timeline,
      timeline: server.wal.timeline,
      highestTimeline: Math.max(state.highestTimeline, server.wal.timeline),
      provisional: false,
      freeze: state.freeze ?? { date: isoTime(scene.obs.wallMs), reason: FREEZE_OF_MODE.asked },
    },
    { rule: "O1", because: "an operator asked for one-node-write mode", settings },
  );
}

// --- nothing to change

function ordinary(scene: PrimaryScene, settings: PostgresSettings): Step {
  const { server, state } = scene;
  const stray = strayWalsender(scene);
  if (stray && waited(scene, "stray") >= scene.obs.policy.suspectMs)
    return {
      rule: "S1",
      because: `the walsender of ${stray.name} has not applied the list of required standbys`,
      settings,
      action: { kind: "end-walsender", pid: stray.pid },
      lookAgainAfterMs: SOON_MS * 4,
    };
  const opening = mayOpen(scene);
  if (server.settings.gate === "closed" && settings.gate === "closed")
    return {
      rule: "P1",
      because: "this primary is not open to clients yet",
      settings,
      waitingOn: opening ?? "the gate to open",
      ...(isFrozen(state) && opening !== undefined && !syncQualified(scene)
        ? { operator: "manatee-adm unfreeze" }
        : {}),
      lookAgainAfterMs: SOON_MS / 2,
    };
  if (server.settings.gate === "closed")
    return {
      rule: "P1",
      because: "all that this primary recovered is on its sync: it opens to clients",
      settings,
      lookAgainAfterMs: SOON_MS,
    };
  const asks = state.sync && !syncQualified(scene);
  return {
    rule: isFrozen(state) ? "F1" : state.sync ? "P1" : "O1",
    because: `this peer is primary of generation ${state.generation}, and open to clients`,
    settings,
    ...(server.cannotGoOn !== undefined && { operator: `make room for PostgreSQL: ${server.cannotGoOn}` }),
    ...(asks
      ? {
          waitingOn: `the sync ${state.sync?.id} to stream: commits wait for it`,
          ...(isFrozen(state) ? { operator: "manatee-adm unfreeze" } : {}),
          lookAgainAfterMs: SOON_MS * 2,
        }
      : { lookAgainAfterMs: IDLE_MS }),
  };
}
