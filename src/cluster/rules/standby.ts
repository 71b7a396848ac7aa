// A peer that is not the primary: it copies, starts as a standby, follows its upstream, comes back from a fork (R1), takes over (T1).

import { canFollow, formatPoint } from "../../base/lineage.ts";
import type { Ms } from "../../base/units.ts";
import { NEUTRAL } from "../desired-postgres.ts";
import { judgeGone, receivesFrom } from "../gone.ts";
import { isFounding, markOf, NOBODY, type PostgresSettings } from "../observation.ts";
import {
  attempt,
  electionEntryOf,
  FORCE_TAKEOVER,
  IDLE_MS,
  presentAs,
  RESUME_REPLAY,
  type Scene,
  SOON_MS,
  type StandbyScene,
  type Step,
  waited,
} from "../step.ts";
import { addressOf, chainOf, isFrozen, type PeerEntry } from "../state.ts";
import {
  continueRejoining,
  copyIsStale,
  copyStep,
  goesByFork,
  hasForked,
  isPrimaryGone,
  noRoom,
  raiseFirst,
  rebuildSource,
  rejoinIfLost,
  renewIncarnation,
  restore,
  sourceOf,
  waitForWished,
} from "./rejoin.ts";
import { resolveForgottenClaim, takeOver, untilFlowEnds } from "./takeover.ts";

export function decideAsStandby(scene: Scene): Step {
  const { obs, state } = scene;
  const { data, server, job } = obs.postgres;
  if (server.kind === "primary") return leavePrimary(scene);
  if (job) return awaitJob(scene);
  const mark = markOf(data);
  const founding = isFounding(mark, state);
  if (data.kind === "none") return restore(scene, "there is no data here");
  if (data.kind === "present" && mark === undefined)
    return stuck(
      "there is a database here that bears no shard's mark",
      "empty this peer's data directory, so that it is copied from the shard",
    );
  if (mark && mark.shard !== obs.shard)
    return stuck(
      `the data here belongs to the shard ${mark.shard}`,
      "correct shardPath, or empty this peer's data directory",
    );
  if (
    data.kind === "present" &&
    state.systemIdentifier !== undefined &&
    data.systemIdentifier !== state.systemIdentifier &&
    !founding
  )
    return stuck(
      `the database here (system identifier ${data.systemIdentifier}) is not the shard's (${state.systemIdentifier})`,
      "move this peer's data directory away, so that it is copied from the shard",
    );
  const source = rebuildSource(scene);
  if (source && !goesByFork(scene)) return rebuild(scene, source);
  const rejoining = server.kind === "stopped" ? continueRejoining(scene) : undefined;
  if (rejoining) return rejoining;
  if (founding && mark?.adopted)
    return stuck(
      "the database that was adopted here is not the one that the shard was founded with",
      "move this peer's data directory away, so that it is copied from the shard",
    );
  if (founding || mark?.incomplete) {
    if (server.kind !== "stopped")
      return attempt(obs, {
        rule: "R1",
        because: "what is here is not the shard's data",
        action: { kind: "stop", mode: "immediate" },
      });
    return restore(
      scene,
      founding ? "the data here was made for a shard that another peer founded" : "a copy was cut short here",
    );
  }
  if (data.kind === "unusable")
    return {
      rule: "R1",
      because: `the data directory can't be used: ${data.message}`,
      waitingOn: "an operator",
      operator: data.hint,
    };
  switch (server.kind) {
    case "stopped":
      return startAsStandby(scene);
    case "starting":
      return {
        rule: "RESUME",
        because: "PostgreSQL is starting as a standby",
        waitingOn: "it to accept connections",
        ...(obs.now - server.since >= obs.policy.opsTimeoutMs * 6 && {
          operator: `${rebuildWay(scene)}, if its log says that it does not reach a consistent state`,
        }),
        lookAgainAfterMs: SOON_MS,
      };
    case "unresponsive":
      return obs.now - server.since >= obs.policy.opsTimeoutMs
        ? attempt(obs, {
            rule: "RESUME",
            because: `PostgreSQL has not answered for ${Math.round((obs.now - server.since) / 1000)} s: ${server.reason}`,
            action: { kind: "stop", mode: "immediate" },
          })
        : {
            rule: "RESUME",
            because: `PostgreSQL does not answer: ${server.reason}`,
            waitingOn: "it to answer",
            lookAgainAfterMs: SOON_MS * 4,
          };
    case "standby":
      return follow({ ...scene, server });
    default:
      return server satisfies never;
  }
}

/** Leaving the role stops the server before its configuration changes: an emptied list would acknowledge all that waits. */
function leavePrimary(scene: Scene): Step {
  const because = `the primary is ${scene.state.primary.id}, since generation ${scene.state.generation}: ${scene.state.reason}`;
  const { job } = scene.obs.postgres;
  if (job?.kind === "stop") return { rule: "T1", because, waitingOn: "PostgreSQL to stop", lookAgainAfterMs: SOON_MS };
  return attempt(scene.obs, {
    rule: "T1",
    because,
    cancelJob: job !== undefined,
    action: { kind: "stop", mode: "immediate" },
    memory: { replacing: undefined, handingOver: undefined, abdicating: undefined },
  });
}

function awaitJob(scene: Scene): Step {
  const { job, server } = scene.obs.postgres;
  const kind = job?.kind ?? "";
  const stale = kind === "copy" ? copyIsStale(scene) : undefined;
  if (stale)
    return {
      rule: "R1",
      because: `${stale}, which was being copied, is no longer the primary`,
      cancelJob: true,
      memory: { copying: undefined },
      lookAgainAfterMs: SOON_MS,
    };
  if (kind === "promote")
    return {
      rule: "T1",
      because: `a newer state names ${scene.state.primary.id}: the promotion under way is stopped`,
      cancelJob: true,
      ...(server.kind === "stopped" ? {} : { action: { kind: "stop", mode: "immediate" } as const }),
    };
  return {
    rule: kind === "start" || kind === "stop" ? "RESUME" : "R1",
    because: `${kind} is under way`,
    waitingOn: job?.progress ?? `${kind} to end`,
    lookAgainAfterMs: SOON_MS,
  };
}

function startAsStandby(scene: Scene): Step {
  const { data } = scene.obs.postgres;
  const mark = markOf(data);
  // A former primary's pages can be ahead of its last checkpoint, on the timeline that it has left: it first replays all that is here, from nobody,
  // and is compared then. After a rewind or a roll-back, the other way round: it becomes consistent only with WAL of its source.
  const rewound = data.kind === "present" && data.controlState === "recovery" && mark?.source !== undefined;
  const source = rewound ? chainOf(scene.state).find(({ id }) => id === mark?.source && id !== scene.me) : undefined;
  const upstream =
    !rewound || mark?.claim ? undefined : source && presentAs(scene.obs, source) ? source : chooseUpstream(scene);
  const { state, me } = scene;
  const unfinished = state.primary.id === me ? state.timeline : undefined;
  return attempt(scene.obs, {
    rule: "RESUME",
    because: `this peer is ${scene.role === "none" ? "not in the chain yet" : scene.role} in generation ${state.generation}`,
    action: {
      kind: "start",
      as: "standby",
      settings: { ...NEUTRAL, upstream: upstream ? addressOf(upstream) : null },
      unfinishedTimeline: unfinished,
      cutAfter: scene.memory.cutAfter,
    },
    memory: { followed: false, rejoining: undefined, cutAfter: undefined },
    lookAgainAfterMs: SOON_MS,
  });
}

function follow(scene: StandbyScene): Step {
  const { role, server } = scene;
  const forgotten = resolveForgottenClaim(scene);
  if (forgotten) return forgotten;
  if (role === "sync") {
    const taking = takeOver(scene);
    if (taking) return taking;
  }
  const rejoining = rejoinIfLost(scene);
  if (rejoining) return rejoining;
  const upstream = chooseUpstream(scene);
  const leaving = leavesGonePrimary(scene, upstream) ?? leavePartialRecord(scene);
  if (leaving) return leaving;
  if (server.settings.upstream === null) {
    const compared = comparable(scene, upstream);
    if (!compared)
      return {
        rule: "R1",
        because:
          upstream.id === scene.state.primary.id
            ? "this server has just started"
            : `the primary ${scene.state.primary.id} is gone, and this peer may have more than its sync`,
        settings: NEUTRAL,
        ...(server.replayPaused
          ? { waitingOn: "its own WAL to be replayed, and replay is paused", operator: RESUME_REPLAY }
          : {
              waitingOn:
                upstream.id === scene.state.primary.id
                  ? "the history of the primary's WAL, to compare its own with"
                  : "a takeover, or the sync to stand still and show where its WAL ends",
              ...(isLong(waited(scene, "silent"), scene) && areBothLost(scene) && { operator: FORCE_TAKEOVER }),
            }),
        lookAgainAfterMs: SOON_MS * 2,
      };
  }
  const settings = standbySettings(scene, upstream);
  const endClients = settings.gate === "closed" && server.settings.gate === "closed" && server.clientSessions > 0;
  const because = `this peer is ${role === "none" ? "not in the chain yet" : role}, and receives from ${upstream.id}`;
  return {
    rule: role === "none" || role === "deposed" ? "A1" : "RESUME",
    because,
    settings,
    ...(endClients ? { action: { kind: "end-clients" } as const } : {}),
    // Receiving again ends what a raise of the version was for: a fork that is noticed later is raised for anew.
    memory: { rejoining: undefined },
    ...waitOfFollower(scene, upstream),
    lookAgainAfterMs:
      server.receiver.kind !== "streaming" ? SOON_MS * 4 : (role === "sync" && untilFlowEnds(scene)) || IDLE_MS,
  };
}

/** What keeps the primary from taking in whoever follows, until an operator ends it. */
function hindrance({ state }: Scene): Pick<Step, "operator"> {
  if (state.oneNodeWriteMode) return { operator: "manatee-adm set-onwm -m off" };
  return isFrozen(state) ? { operator: "manatee-adm unfreeze" } : {};
}

function waitOfFollower(scene: StandbyScene, upstream: PeerEntry): Pick<Step, "waitingOn" | "operator"> {
  const { role, server, state, obs } = scene;
  const { receiver, walGoneAt } = server;
  // At each attempt it streams for a moment.
  if (walGoneAt === upstream.id)
    return { waitingOn: `WAL that ${upstream.id} no longer has`, operator: rebuildWay(scene) };
  if (receiver.kind === "streaming" && receiver.silentMs >= obs.policy.suspectMs)
    return { waitingOn: `a word from ${upstream.id}, which is silent` };
  if (receiver.kind !== "streaming" && server.replayPaused)
    return {
      waitingOn: "replay, which is paused: until it goes on, PostgreSQL connects to nobody",
      operator: RESUME_REPLAY,
    };
  if (receiver.kind !== "streaming") {
    const operator = areBothLost(scene)
      ? FORCE_TAKEOVER
      : `${rebuildWay(scene)}, if the log says that the WAL it needs is gone`;
    return {
      waitingOn: `a connection to ${upstream.id}`,
      ...(isLong(waited(scene, "receiver"), scene) ? { operator } : {}),
    };
  }
  const waiting = waitForWished(scene);
  if (waiting) return waiting;
  if (role === "none" || role === "deposed")
    return { waitingOn: `${state.primary.id} to take it into the chain`, ...hindrance(scene) };
  if (role === "sync" && !presentAs(obs, state.sync as PeerEntry))
    return { waitingOn: `${state.primary.id} to name it under its new incarnation` };
  return {};
}

/** A sync is not rebuilt. Another peer takes its place by itself; where there is none, the primary is told to go on alone meanwhile (O1). */
function rebuildWay({ role }: Scene): string {
  return role === "sync"
    ? "manatee-adm set-onwm -m on, then rebuild, then set-onwm -m off, unless another peer becomes sync"
    : "manatee-adm rebuild";
}

/** The primary and its sync: nobody may take over without an operator's word (O2). */
function areBothLost(scene: Scene): boolean {
  const { state, obs } = scene;
  return isPrimaryGone(scene) && !(state.sync && presentAs(obs, state.sync));
}

/** Long enough to tell an operator. */
function isLong(waitedMs: Ms, { obs }: Scene): boolean {
  return waitedMs >= obs.policy.opsTimeoutMs * 3;
}

/** What came from a primary directly can be more than its sync has: receiving ends, and both are compared where they stand. undefined: nothing of that kind. */
function leavesGonePrimary(scene: StandbyScene, upstream: PeerEntry): Step | undefined {
  const { server, state } = scene;
  const { receiver, settings } = server;
  if (upstream.id === state.primary.id || !isPrimaryGone(scene)) return undefined;
  const receives = settings.upstream?.id === state.primary.id;
  // Told to end, and still there: on a dead connection it would be for long.
  const lingers = settings.upstream === null && receiver.kind !== "none";
  if (!receives && !lingers) return undefined;
  return {
    rule: "R1",
    because: `${state.primary.id}, from which this peer received, is gone`,
    settings: NEUTRAL,
    ...(lingers && receiver.pid > 0
      ? { action: { kind: "end-receiver", pid: receiver.pid } as const }
      : { waitingOn: "receiving to stop, to compare its WAL with the sync's" }),
    lookAgainAfterMs: SOON_MS,
  };
}

/**
 * The primary has left this peer's timeline where its last whole record ends: nobody will complete what lies behind. While local WAL is not exhausted (replay is
 * paused, or waits), whole records may lie there: a fork, which is kept before it goes (I5).
 */
function leavePartialRecord(scene: StandbyScene): Step | undefined {
  const { server, obs } = scene;
  if (!server.caughtUpLocally) return undefined;
  const { timeline } = server.wal;
  const left = sourceOf(scene)?.lineage.past.find((segment) => segment.timeline === timeline);
  if (!server.partialRecord || left?.end !== server.replayed) return undefined;
  const at = { timeline, lsn: left.end };
  return attempt(obs, {
    rule: "RESUME",
    because: `behind ${formatPoint(at)}, where the primary has left that timeline, lies a part of a record here: it is cut off`,
    action: { kind: "stop", mode: "fast" },
    memory: { cutAfter: at },
  });
}

/** What is here can be compared with: either it was (and an upstream was set since), or the history of the WAL that it is to follow is known and contains it. */
function comparable(scene: StandbyScene, upstream: PeerEntry): boolean {
  const { server, state } = scene;
  if (!server.caughtUpLocally) return false;
  const source = sourceOf(scene);
  if (upstream.id !== state.primary.id && isPrimaryGone(scene))
    return server.receiver.kind === "none" && source?.standing !== undefined && !hasForked(scene, source);
  // Only its primary writes on a timeline: whoever is not it and stands on it has received all that it has.
  if (!state.provisional && server.wal.timeline === state.timeline) return true;
  return source !== undefined && canFollow(source.lineage, { timeline: server.wal.timeline, lsn: server.wal.end });
}

/**
 * From whom this peer receives: the sync from the primary; an async from the nearest member above it that is there and can
 * serve it; a peer outside the chain from the primary, or, while that is believed gone, from the sync.
 */
function chooseUpstream(scene: Scene): PeerEntry {
  const { state, role, me, obs } = scene;
  if (role === "sync") return state.primary;
  const primaryGone = judgeGone(obs, state, state.primary, { flows: receivesFrom(obs, state.primary) }).gone;
  const calls = electionEntryOf(obs, state.primary.id)?.announcement?.callsFor === me;
  if (!primaryGone && (calls || role !== "async")) return state.primary;
  if (primaryGone && state.sync && goesToSync(scene, state.sync)) return state.sync;
  const chain = chainOf(state);
  const above =
    role === "async"
      ? chain.slice(
          1,
          chain.findIndex((peer) => peer.id === me),
        )
      : state.sync
        ? [state.sync]
        : [];
  const serves = (peer: PeerEntry): boolean => {
    const phase = electionEntryOf(obs, peer.id)?.announcement?.phase;
    if (!presentAs(obs, peer) || phase === "restoring" || phase === "diverged") return false;
    if (primaryGone) return true;
    return (
      phase === "following" &&
      !(isAvoided(scene, peer) || judgeGone(obs, state, peer, { flows: receivesFrom(obs, peer) }).gone)
    );
  };
  const found = above.findLast(serves);
  return found ?? (primaryGone && state.sync && state.sync.id !== me && role !== "async" ? state.sync : state.primary);
}

/**
 * While the primary is gone: the sync stands still for want of an heir, which nobody is for it who receives from a peer that does not reach it. Who has come
 * stays.
 */
function goesToSync({ obs }: Scene, sync: PeerEntry): boolean {
  const { server } = obs.postgres;
  const isThere = server.kind === "standby" && server.settings.upstream?.id === sync.id;
  return presentAs(obs, sync) && (isThere || electionEntryOf(obs, sync.id)?.announcement?.standing !== undefined);
}

/** An upstream from which nothing could be received for the suspect time is passed over for a while (noted by `decide`). */
function isAvoided(scene: Scene, peer: PeerEntry): boolean {
  return peer.id in scene.memory.waits.avoided;
}

/** Readers are admitted where what they see can't be lost: on the sync, and on what follows it; not on whoever receives from the primary beside it. */
function standbySettings(scene: StandbyScene, upstream: PeerEntry): PostgresSettings {
  const { role, state } = scene;
  const open = role === "sync" || (role === "async" && upstream.id !== state.primary.id);
  return { syncNames: [NOBODY], gate: open ? "open" : "closed", upstream: addressOf(upstream) };
}

/** An operator's `rebuild` of what has not forked, or is to be whole: like a fork that is left, by a copy. Not before a newer version was read: a write of S1 may count on what this peer has reported. */
function rebuild(scene: Scene, source: PeerEntry): Step {
  const { obs, memory } = scene;
  const { data, server, forks } = obs.postgres;
  const because = "an operator asked for this peer to be rebuilt";
  const base = { rule: "R1", because, settings: NEUTRAL, lookAgainAfterMs: SOON_MS } as const;
  if (server.kind === "standby" && (server.settings.upstream !== null || server.receiver.kind !== "none"))
    return { ...base, waitingOn: "receiving to stop", memory: { rejoining: undefined } };
  // What such a server receives, or has reported a moment ago, can't be seen.
  if ((server.kind === "starting" || server.kind === "unresponsive") && !memory.rejoining?.raised)
    return attempt(obs, { ...base, action: { kind: "stop", mode: "immediate" } });
  const raising = raiseFirst(scene, because, { from: source.id, why: "asked" });
  if (raising) return raising;
  const rejoining = memory.rejoining as NonNullable<typeof memory.rejoining>;
  const mark = markOf(data);
  const renewed = mark === undefined || mark.incarnation === rejoining.incarnation;
  if (!renewed) return attempt(obs, { ...base, ...renewIncarnation(scene, rejoining) });
  if (mark && data.kind === "present" && obs.store.announced?.incarnation !== rejoining.incarnation)
    return { ...base, waitingOn: "its new incarnation to be published" };
  if (server.kind !== "stopped") return attempt(obs, { ...base, action: { kind: "stop", mode: "fast" } });
  // What can't be read now is kept as well: only what a copy left unfinished is worth nothing.
  if (data.kind !== "none" && !mark?.incomplete && !forks.includes(rejoining.fork)) {
    if (forks.length >= obs.policy.forksKeptMax) return { ...base, ...noRoom(forks.length) };
    return attempt(obs, { ...base, action: { kind: "keep-fork", name: rejoining.fork } });
  }
  return copyStep(scene, source, because, { ...rejoining, touched: { by: "copy", at: obs.now } });
}

function stuck(because: string, operator: string): Step {
  return { rule: "R1", because, waitingOn: "an operator", operator };
}
