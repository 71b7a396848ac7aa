// T1: the sync takes over. Stop receiving → wait for the heir → claim → (read the claim) → promote → amend. Here: up to the claim;
// what follows is decided by whoever the state then names primary (primary.ts).

import { isoTime } from "../../base/text.ts";
import type { Ms } from "../../base/units.ts";
import { containsPoint } from "../../base/lineage.ts";
import { minLsn, ZERO_LSN } from "../../base/lsn.ts";
import { NEUTRAL } from "../desired-postgres.ts";
import { isMissed, judgeGone, silenceLimit } from "../gone.ts";
import { markOf } from "../observation.ts";
import {
  electionEntryOf,
  entryFrom,
  fenceStep,
  FORCE_TAKEOVER,
  isOutcomeLost,
  RESUME_REPLAY,
  SOON_MS,
  type StandbyScene,
  type Step,
  walsenderOf,
  writeStep,
} from "../step.ts";
import { FREEZE_OF_MODE, isFrozen, type PeerAddress, type PeerEntry, type ShardState } from "../state.ts";
import { compareAsSync, compareRanks } from "../tags.ts";

/** Of a sync: why the primary counts as gone, and what its own taking over still lacks. */
interface Case {
  readonly gone: boolean;
  readonly because: string;
  /** undefined: nothing. */
  readonly lacks: string | undefined;
  /** Nothing is lacking but an heir: it stops receiving and shows its WAL, so that a forked peer can come back as its heir (R1). */
  readonly lacksHeir?: boolean;
  readonly operator?: string;
}

function assessTakeover(scene: StandbyScene): Case {
  const { state, obs, server } = scene;
  const { receiver } = server;
  const flows = receiver.kind === "streaming" && receiver.silentMs < silenceLimit(obs, state.primary.id);
  const handover = electionEntryOf(obs, state.primary.id)?.announcement?.handover;
  const handedOver =
    handover?.generation === state.generation &&
    state.promote?.id === scene.me &&
    handover.checkpoint < server.replayed;
  const verdict = handedOver
    ? { gone: true, because: "has shut down to hand over, and its last record is here" }
    : judgeGone(obs, state, state.primary, { flows, silentSince: scene.memory.waits.silent });
  return {
    gone: verdict.gone,
    because: `the primary ${state.primary.id} ${verdict.because}`,
    ...lacking(scene, handedOver),
  };
}

/** `handedOver`: an operator asked for this peer by name (T3), which goes before its tags. */
function lacking(scene: StandbyScene, handedOver: boolean): Omit<Case, "gone" | "because"> {
  const { state, server, obs } = scene;
  const mark = markOf(obs.postgres.data);
  if (isFrozen(state)) return { lacks: "the shard is frozen", operator: "manatee-adm unfreeze" };
  if (obs.tags?.nofailover && !handedOver)
    return {
      lacks: `${scene.me} is tagged nofailover: it does not take over by itself`,
      operator: `take nofailover out of the tags of ${scene.me} and send its sitter SIGHUP, or ${FORCE_TAKEOVER}`,
    };
  if (mark?.incarnation !== state.sync?.incarnation)
    return {
      lacks: `this peer's data (incarnation ${mark?.incarnation ?? "none"}) is not what the state names (${state.sync?.incarnation ?? "none"})`,
      operator: FORCE_TAKEOVER,
    };
  if (server.replayPaused) return { lacks: "replay is paused", operator: RESUME_REPLAY };
  if (!server.caughtUpLocally) return { lacks: "its own WAL is not replayed yet" };
  if (!containsPoint(server.wal, { timeline: state.initTimeline, lsn: state.initWal }))
    return {
      lacks: `its WAL does not contain the beginning of generation ${state.generation}`,
      operator: FORCE_TAKEOVER,
    };
  if (!findHeir(scene) && !obs.policy.takeoverAlone)
    return {
      lacks: "an heir: no other peer streams from here",
      lacksHeir: true,
      operator: `start another peer, or ${FORCE_TAKEOVER}`,
    };
  return { lacks: undefined };
}

/**
 * A present peer that streams from here, a deposed one too. Before all comes who can hold the end of the WAL here soon (the takeover waits for that), then the
 * tags, then who holds and has replayed most; else asyncs in their order, and others after them.
 */
export function findHeir(scene: StandbyScene): PeerEntry | undefined {
  const { state, obs, server } = scene;
  const streaming = obs.store.election.filter(({ peer, announcement }) => {
    const walsender = walsenderOf(server, peer);
    return (
      peer.id !== scene.me &&
      peer.id !== state.primary.id &&
      announcement?.incarnation !== undefined &&
      announcement.phase !== "restoring" &&
      announcement.phase !== "diverged" &&
      walsender?.state === "streaming" &&
      walsender.flush !== undefined
    );
  });
  const listed = state.async.flatMap(({ id }) => streaming.filter(({ peer }) => peer.id === id));
  const candidates = [...listed, ...streaming.filter((entry) => !listed.includes(entry))];
  const compareTags = compareAsSync(obs.tags);
  const [heir] = candidates
    .map((entry) => ({ ...entry, missing: missingAt(scene, entry.peer), delays: delays(scene, entry.peer) }))
    .sort(
      (a, b) =>
        compareRanks([a.delays], [b.delays]) ||
        compareTags(a.announcement?.tags, b.announcement?.tags) ||
        (a.missing < b.missing ? -1 : a.missing > b.missing ? 1 : 0),
    );
  return (
    heir &&
    entryFrom(
      heir.peer,
      heir.announcement?.incarnation,
      state.async.find(({ id }) => id === heir.peer.id),
    )
  );
}

/** Bytes of the WAL here that this standby has not flushed, or not replayed: one whose replay is paused could not take over in its turn. */
function missingAt({ server }: StandbyScene, peer: PeerAddress): bigint {
  const walsender = walsenderOf(server, peer);
  const flush = walsender?.flush ?? ZERO_LSN;
  const held = minLsn(flush, walsender?.replay ?? flush);
  return held < server.wal.end ? server.wal.end - held : 0n;
}

/** 1: a takeover that waits for this peer would take long: it says nothing, or is far behind. */
function delays(scene: StandbyScene, peer: PeerAddress): 0 | 1 {
  const { obs, server } = scene;
  const silent = (walsenderOf(server, peer)?.silentMs ?? 0) >= silenceLimit(obs, peer.id);
  return silent || missingAt(scene, peer) > BigInt(obs.policy.syncLagBytesMax) ? 1 : 0;
}

/** A receiver that has been told to end by the settings, and is still there after that, is ended by its pid. */
const RECEIVER_MS = 100;

/** Where nothing but WAL speaks for a primary that is missed otherwise: when that will be over; no event tells. */
export function untilFlowEnds({ state, obs, server: { receiver } }: StandbyScene): Ms | undefined {
  const { id } = state.primary;
  if (receiver.kind !== "streaming" || !isMissed(obs, id)) return undefined;
  const left = silenceLimit(obs, id) - receiver.silentMs;
  return left > 0 ? left : undefined;
}

/** undefined: nothing to take over. Otherwise this decides all that the sync does. */
export function takeOver(scene: StandbyScene): Step | undefined {
  const { memory, obs } = scene;
  const found = assessTakeover(scene);
  if (memory.sent?.what === "T1") return awaitClaim(scene, found);
  if (!found.gone) return memory.takingOver ? giveUpTakeover(scene, found.because) : undefined;
  const primary = obs.peers[scene.state.primary.id];
  // It only lost the store, and nobody can take over: what it sends is received.
  if (found.lacksHeir && primary?.sitter.kind === "answers" && primary.postgresHealthy)
    return memory.takingOver
      ? giveUpTakeover(scene, `there is no heir, and ${scene.state.primary.id} is well`)
      : undefined;
  if (found.lacksHeir) {
    const waiting = {
      rule: "T1",
      because: found.because,
      settings: NEUTRAL,
      // Anew at each look: to wait for an heir is not what opsTimeoutMs bounds.
      memory: { takingOver: { since: obs.now } },
      lookAgainAfterMs: SOON_MS * 2,
    } as const;
    return (
      stopReceiving(scene, waiting, memory.takingOver?.since ?? obs.now) ?? {
        ...waiting,
        waitingOn: found.lacks ?? "",
        ...(found.operator ? { operator: found.operator } : {}),
      }
    );
  }
  if (found.lacks !== undefined) {
    if (memory.takingOver) return giveUpTakeover(scene, found.lacks);
    return {
      rule: "T1",
      because: found.because,
      waitingOn: found.lacks,
      ...(found.operator ? { operator: found.operator } : {}),
      lookAgainAfterMs: SOON_MS * 2,
    };
  }
  const since = memory.takingOver?.since ?? obs.now;
  if (obs.now - since >= obs.policy.opsTimeoutMs) return giveUpTakeover(scene, "it took too long");
  const base = {
    rule: "T1",
    because: found.because,
    settings: NEUTRAL,
    memory: { takingOver: { since } },
    lookAgainAfterMs: SOON_MS,
  } as const;
  return stopThenClaim(scene, base, since);
}

/** Nothing may be received any more, by whatever PostgreSQL shows; undefined: so it is. */
function stopReceiving(scene: StandbyScene, base: Omit<Step, "action">, since: number): Step | undefined {
  const { server, obs } = scene;
  const { receiver } = server;
  if (server.settings.upstream === null && receiver.kind === "none") return undefined;
  const told = server.settings.upstream === null && obs.now - since >= RECEIVER_MS;
  // On a connection that is dead it does not end by itself for long: it is ended right behind the settings.
  const dead = receiver.kind === "streaming" && receiver.silentMs >= silenceLimit(obs, scene.state.primary.id);
  return receiver.kind !== "none" && (told || dead)
    ? {
        ...base,
        because: `${base.because}; what is received must end first`,
        action: { kind: "end-receiver", pid: receiver.pid },
      }
    : { ...base, waitingOn: "receiving to stop" };
}

function stopThenClaim(scene: StandbyScene, base: Omit<Step, "action">, since: number): Step {
  const { server, obs, version } = scene;
  const mark = markOf(obs.postgres.data);
  const stopping = stopReceiving(scene, base, since);
  // The mark is made while receiving ends: it only makes a sitter that starts more careful.
  if (mark?.claim?.version !== version && stopping?.action === undefined)
    return { ...(stopping ?? base), action: { kind: "mark-claim", version } };
  if (stopping) return stopping;
  const heir = findHeir(scene);
  const flushed = heir && walsenderOf(server, heir)?.flush;
  if (heir && (flushed === undefined || flushed < server.wal.end))
    return { ...base, waitingOn: `${heir.id} to flush all that is here` };
  const because = heir
    ? `${base.because}; ${heir.id} is the heir`
    : `${base.because}; there is no heir, and going on alone is allowed`;
  return writeStep(scene, "T1", claim(scene, heir), { ...base, because });
}

function claim(scene: StandbyScene, heir: PeerEntry | undefined): ShardState {
  const { state, server, obs } = scene;
  const isHeir = (peer: PeerEntry): boolean => peer.id === heir?.id;
  return {
    ...state,
    generation: state.generation + 1,
    primary: entryFrom(obs.self, state.sync?.incarnation, state.sync ?? undefined),
    sync: heir ?? null,
    async: state.async.filter((peer) => !isHeir(peer)),
    deposed: [...state.deposed.filter((peer) => !isHeir(peer) && peer.id !== state.primary.id), state.primary],
    initWal: server.wal.end,
    initTimeline: server.wal.timeline,
    provisional: true,
    timeline: state.highestTimeline + 1,
    highestTimeline: state.highestTimeline + 1,
    promote: undefined,
    malformedPromote: undefined,
    ...(heir
      ? {}
      : {
          oneNodeWriteMode: true,
          freeze: { date: isoTime(obs.wallMs), reason: FREEZE_OF_MODE.tookOverAlone },
        }),
  };
}

/** From the moment a claim is sent, nothing is received until a newer version is read. After the bound the version is raised, which ends it. */
function awaitClaim(scene: StandbyScene, found: Case): Step {
  const base = { rule: "T1", because: found.because, settings: NEUTRAL, lookAgainAfterMs: SOON_MS } as const;
  if (isOutcomeLost(scene))
    return fenceStep(scene, "the outcome of this peer's claim is unknown", { settings: NEUTRAL });
  return { ...base, waitingOn: "a newer version of the state to be read, since the claim was sent" };
}

/** T1.3: before the claim is sent, taking over may simply be given up: the mark goes first, then receiving resumes. */
function giveUpTakeover(scene: StandbyScene, why: string): Step {
  if (scene.memory.sent)
    return {
      rule: "T1",
      because: `taking over is given up: ${why}`,
      settings: NEUTRAL,
      waitingOn: "a newer version of the state to be read, since a write was sent",
      lookAgainAfterMs: SOON_MS,
    };
  const { obs } = scene;
  const mark = markOf(obs.postgres.data);
  if (mark?.claim)
    return {
      rule: "T1",
      because: `taking over is given up: ${why}`,
      settings: NEUTRAL,
      action: { kind: "mark-claim", version: undefined },
      lookAgainAfterMs: 1,
    };
  return {
    rule: "T1",
    because: `taking over is given up: ${why}`,
    memory: { takingOver: undefined },
    lookAgainAfterMs: SOON_MS,
  };
}

/** A sitter that starts and finds the mark of a claim, whatever its role now, raises the version before it receives again. */
export function resolveForgottenClaim(scene: StandbyScene): Step | undefined {
  const { obs, memory, version } = scene;
  const mark = markOf(obs.postgres.data);
  if (!mark?.claim || memory.takingOver || memory.sent?.what === "T1") return undefined;
  if (version > mark.claim.version)
    return {
      rule: "T1",
      because: "the claim that was marked has ended: a newer version was read",
      settings: NEUTRAL,
      action: { kind: "mark-claim", version: undefined },
      lookAgainAfterMs: 1,
    };
  return fenceStep(scene, "a claim of this peer may be on its way", { settings: NEUTRAL });
}
