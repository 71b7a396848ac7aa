// R1: a peer whose WAL has forked comes back. Stop receiving; raise the version; make a new incarnation durable and published; keep the fork; roll back, rewind or copy
// (rejoin-way.ts). So does one that was away for too long, by a copy. And the copy of a peer that has no data.

import { canFollow, containsPoint, formatPoint, type Lineage, type Wal, type WalPoint } from "../../base/lineage.ts";
import { formatLsn } from "../../base/lsn.ts";
import type { PeerId } from "../../base/peer-id.ts";
import type { PostgresAction, Rejoining } from "../decision.ts";
import { NEUTRAL } from "../desired-postgres.ts";
import { markOf, type ServerObservation } from "../observation.ts";
import { isMissed, judgeGone, receivesFrom } from "../gone.ts";
import { leavesRoomForLess, nextWay } from "../rejoin-way.ts";
import {
  attempt,
  electionEntryOf,
  connected,
  fenceStep,
  FORCE_TAKEOVER,
  IDLE_MS,
  isOutcomeLost,
  presentAs,
  type Scene,
  SOON_MS,
  type StandbyScene,
  type Step,
  waited,
} from "../step.ts";
import { chainOf, isFrozen, type PeerEntry } from "../state.ts";

/** Whom this peer could go back to, and the WAL that it would have to follow. */
export interface Source {
  readonly peer: PeerEntry;
  readonly lineage: Lineage;
  /** Of a sync that stands still: all its WAL. */
  readonly standing: Wal | undefined;
}

/** The serving primary of this generation; while it is believed gone, a sync that qualifies for T1 and stands still. */
export function sourceOf(scene: Scene): Source | undefined {
  const { state, obs } = scene;
  const serving = electionEntryOf(obs, state.primary.id)?.announcement?.serving;
  const gone = isPrimaryGone(scene);
  // The node of one that is gone stays until its session ends.
  if (!gone && serving && presentAs(obs, state.primary) && serving.generation === state.generation)
    return { peer: state.primary, lineage: serving.lineage, standing: undefined };
  const standing = state.sync ? electionEntryOf(obs, state.sync.id)?.announcement?.standing : undefined;
  if (state.sync === null || standing === undefined || !presentAs(obs, state.sync)) return undefined;
  if (state.sync.id === scene.me || !gone) return undefined;
  if (!containsPoint(standing, { timeline: state.initTimeline, lsn: state.initWal })) return undefined;
  return { peer: state.sync, lineage: standing, standing };
}

/** By what this peer sees of it, WAL that it receives included. */
export function isPrimaryGone({ obs, state, memory }: Scene): boolean {
  const flows = receivesFrom(obs, state.primary);
  return judgeGone(obs, state, state.primary, { flows, silentSince: memory.waits.silent }).gone;
}

/**
 * R1.8: from whom this peer is rebuilt, as an operator asked. undefined: nobody asked, or it has to wait: until a primary serves, this peer may be the one that
 * the shard needs to go on.
 */
export function rebuildSource(scene: Scene): PeerEntry | undefined {
  const { obs, role, state } = scene;
  const asked = obs.rebuildRequested;
  if (asked === undefined || role === "sync") return undefined;
  const source = sourceOf(scene)?.peer;
  if (source?.id !== state.primary.id) return undefined;
  return asked.from === undefined || asked.from === source.id ? source : wishedSource(scene, asked.from);
}

/** A member of the chain that follows, and is there. What it has received beyond the primary shows as a fork afterwards, like any other. */
export function wishedSource({ obs, state, me }: Scene, wished: PeerId): PeerEntry | undefined {
  const peer = chainOf(state).find(({ id }) => id === wished && id !== me);
  const follows = peer && electionEntryOf(obs, peer.id)?.announcement?.phase === "following";
  if (!peer || !follows || !presentAs(obs, peer)) return undefined;
  return judgeGone(obs, state, peer, { flows: receivesFrom(obs, peer) }).gone ? undefined : peer;
}

/** undefined: no other source than the primary is wished for, or it is there. */
export function waitForWished(scene: Scene): Required<Pick<Step, "waitingOn" | "operator">> | undefined {
  const wished = scene.obs.rebuildRequested?.from;
  if (wished === undefined || wished === scene.state.primary.id || wishedSource(scene, wished)) return undefined;
  return {
    waitingOn: `${wished}, from which it is to be rebuilt, to follow the shard`,
    operator: "manatee-adm rebuild without --from, if that peer does not come back",
  };
}

/** R1.8: a rebuild that goes the way of any fork. A server that is down is believed only what was seen of it before. */
export function goesByFork(scene: Scene): boolean {
  const { obs, state, memory } = scene;
  const { server } = obs.postgres;
  const source = sourceOf(scene);
  if (obs.rebuildRequested === undefined || source === undefined) return false;
  const forked =
    server.kind === "standby" ? hasForked({ ...scene, server }, source) : memory.rejoining?.why === "forked";
  return leavesRoomForLess(obs.rebuildRequested, { primary: state.primary.id, forked });
}

/** Whether this peer's WAL, known to its end, has forked from that source's. */
export function hasForked(scene: StandbyScene, source: Source): boolean {
  const { wal, caughtUpLocally } = scene.server;
  if (!caughtUpLocally || source.peer.id === scene.me) return false;
  const point = { timeline: wal.timeline, lsn: wal.end };
  return source.standing ? !containsPoint(source.standing, point) : !canFollow(source.lineage, point);
}

/**
 * R1.9: whether the primary, from which all that is here came, has removed the WAL that comes next. Others may have kept less than it. Never of the sync: what
 * is here is then the shard's only other copy.
 */
function isLeftBehind({ server, state, role }: StandbyScene, source: Source): boolean {
  return (
    server.walGoneAt === state.primary.id &&
    source.peer.id === state.primary.id &&
    server.caughtUpLocally &&
    role !== "sync"
  );
}

/** undefined: this peer can follow, or whether it can may not be known yet. */
export function rejoinIfLost(scene: StandbyScene): Step | undefined {
  const source = sourceOf(scene);
  if (!source) return undefined;
  const forked = hasForked(scene, source);
  if (!forked && !isLeftBehind(scene, source)) return undefined;
  const because = forked
    ? `this peer's WAL (timeline ${scene.server.wal.timeline}) has forked from that of ${source.peer.id} (timeline ${source.lineage.timeline})`
    : `${source.peer.id} no longer has the WAL that comes after ${formatLsn(scene.server.wal.end)}, where this peer's ends`;
  const refusal = refused(scene, source);
  if (refusal) return { rule: "R1", because, settings: NEUTRAL, ...refusal };
  const { obs, server } = scene;
  if (server.settings.upstream !== null || server.receiver.kind !== "none") {
    const { receiver } = server;
    const stoppingMs = waited(scene, "stopping");
    // One that was ordered and never came has no process to end: the server is stopped instead, which it will be anyway.
    if (stoppingMs >= obs.policy.opsTimeoutMs)
      return attempt(obs, { rule: "R1", because, settings: NEUTRAL, action: { kind: "stop", mode: "fast" } });
    const late = stoppingMs >= obs.policy.suspectMs;
    return {
      rule: "R1",
      because,
      settings: NEUTRAL,
      ...(late && receiver.kind !== "none" && receiver.pid > 0
        ? { action: { kind: "end-receiver", pid: receiver.pid } }
        : { waitingOn: "receiving to stop" }),
      memory: { rejoining: undefined },
      lookAgainAfterMs: SOON_MS,
    };
  }
  const raising = raiseFirst(scene, because, { from: source.peer.id, why: forked ? "forked" : "wal-gone" });
  if (raising) return raising;
  return leaveData(scene, because);
}

/**
 * The version is raised by a write of this peer's own, sent after it had stopped receiving: a newer version alone may be older than that. undefined: it
 * is. A write that counts on what this peer has reported can't land any more.
 */
export function raiseFirst(
  scene: Scene,
  because: string,
  { from, why }: Pick<Rejoining, "from" | "why">,
): Step | undefined {
  const { memory, obs, version } = scene;
  const current = memory.rejoining?.from === from && memory.rejoining.why === why ? memory.rejoining : undefined;
  if (current?.raised) return undefined;
  const { lastWrite } = obs.store;
  const outcome = current?.token !== undefined && lastWrite?.token === current.token ? lastWrite.outcome : undefined;
  const base = { rule: "R1", because, settings: NEUTRAL, lookAgainAfterMs: 1 } as const;
  if (current && outcome === "yes" && version > current.version)
    return { ...base, memory: { rejoining: { ...current, raised: true } } };
  const waits =
    current !== undefined &&
    (outcome === "sent" ||
      outcome === "yes" ||
      (outcome === "unknown" && memory.sent !== undefined && !isOutcomeLost(scene)));
  if (waits) return { ...base, waitingOn: "a newer version of the state to be read", lookAgainAfterMs: SOON_MS };
  const step = fenceStep(scene, `${because}; no write that counts on what it has reported may land any more`, {
    settings: NEUTRAL,
  });
  if (!step.action) return { ...step, rule: "R1" };
  const rejoining: Rejoining = {
    from,
    version,
    token: step.memory?.sent?.token,
    raised: false,
    incarnation: current?.incarnation ?? obs.nonce,
    fork: forkOf(scene),
    why,
    touched: undefined,
  };
  return { ...step, rule: "R1", memory: { ...step.memory, rejoining } };
}

/** As which fork the content is kept: that of an earlier attempt, which this peer has forgotten, where the content is still the same. */
function forkOf({ obs }: Scene): string {
  const { data, server } = obs.postgres;
  const mark = markOf(data);
  const end = endOf(server);
  const same = mark?.leaving && end && formatPoint(mark.leaving.end) === formatPoint(end);
  return same ? mark.leaving.fork : (mark?.incarnation ?? `unmarked-${obs.nonce}`);
}

function endOf(server: ServerObservation): WalPoint | undefined {
  if (server.kind !== "standby" || !server.caughtUpLocally) return undefined;
  return { timeline: server.wal.timeline, lsn: server.wal.end };
}

/** Durably, before the content is touched, and with what another attempt must know after a crash. */
export function renewIncarnation({ obs }: Scene, { incarnation, fork }: Rejoining): { action: PostgresAction } {
  const end = endOf(obs.postgres.server);
  return { action: { kind: "renew-incarnation", incarnation, leaving: end && { fork, end } } };
}

function refused(scene: StandbyScene, source: Source): Pick<Step, "waitingOn" | "operator"> | undefined {
  const { state, obs, role } = scene;
  const isAsked = goesByFork(scene);
  if (isFrozen(state) && !isAsked) return { waitingOn: "the shard to be unfrozen", operator: "manatee-adm unfreeze" };
  if (obs.policy.rejoin === "manual" && !isAsked)
    return waitForWished(scene) ?? { waitingOn: "an operator (rejoin is manual)", operator: "manatee-adm rebuild" };
  if (role === "sync") {
    // Its word may be counted on by a takeover. Only where nothing was acknowledged, and nobody else can be named in its place.
    const others = obs.store.election.filter(
      (entry) =>
        entry.peer.id !== scene.me &&
        entry.peer.id !== state.primary.id &&
        entry.announcement?.incarnation !== undefined &&
        entry.announcement.phase === "following" &&
        !isMissed(obs, entry.peer.id),
    );
    if (!state.provisional || source.peer.id !== state.primary.id || others.length > 0)
      return {
        waitingOn: `${state.primary.id} to name another sync`,
        operator: `if no other peer can become sync: manatee-adm verify`,
      };
  }
  return undefined;
}

/** The version is raised, and it still can't follow: from here on its data is left. */
function leaveData(scene: StandbyScene, because: string): Step {
  const { memory, obs } = scene;
  const rejoining = memory.rejoining as NonNullable<typeof memory.rejoining>;
  const mark = markOf(obs.postgres.data);
  const base = { rule: "R1", because, settings: NEUTRAL, lookAgainAfterMs: SOON_MS } as const;
  const { forks } = obs.postgres;
  if (rejoining.why === "forked" && !forks.includes(rejoining.fork) && forks.length >= obs.policy.forksKeptMax)
    return { ...base, ...noRoom(forks.length) };
  if (mark?.incarnation !== rejoining.incarnation)
    return attempt(obs, { ...base, ...renewIncarnation(scene, rejoining) });
  if (obs.store.announced?.incarnation !== rejoining.incarnation)
    return { ...base, waitingOn: "its new incarnation to be published" };
  return attempt(obs, { ...base, action: { kind: "stop", mode: "fast" } });
}

/** I5: how many forks are kept is bounded; at the bound an operator looks first. */
export function noRoom(kept: number): Pick<Step, "waitingOn" | "operator" | "lookAgainAfterMs"> {
  return {
    waitingOn: `room for another fork: ${kept} are kept`,
    operator: "manatee-adm diverged, and --drop those forks that hold nothing you need",
    lookAgainAfterMs: IDLE_MS,
  };
}

/** The server is stopped, the new incarnation published: keep the fork, then go back by the cheapest way. undefined: there is nothing (more) of that to do. */
export function continueRejoining(scene: Scene): Step | undefined {
  const { memory, obs } = scene;
  const { rejoining } = memory;
  const { data, failure } = obs.postgres;
  const mark = markOf(data);
  if (!rejoining || (mark?.incarnation !== rejoining.incarnation && rejoining.touched?.by !== "copy")) return undefined;
  if (obs.store.announced?.incarnation !== rejoining.incarnation && !rejoining.touched) return undefined;
  const leftBehind = rejoining.why === "wal-gone";
  const because = leftBehind
    ? `${rejoining.from} no longer has the WAL that comes next here`
    : `its fork is left, to go back to ${rejoining.from}`;
  const base = { rule: "R1", because, lookAgainAfterMs: SOON_MS } as const;
  const { touched } = rejoining;
  const failed = touched && failure?.action === touched.by && failure.at >= touched.at ? failure : undefined;
  // The mark names a source once its data has come from there: an attempt that was cancelled before that is none.
  // A roll-back that failed in its last steps is ended by a later look.
  if (touched && (!failed || touched.by === "roll-back") && mark && !mark.incomplete && mark.source === rejoining.from)
    return {
      ...base,
      because: leftBehind ? `it has copied ${rejoining.from}` : `its fork is left behind, by ${touched.by}`,
      memory: { rejoining: undefined },
      lookAgainAfterMs: 1,
    };
  const source = sourceOf(scene);
  if (!source)
    return {
      ...base,
      waitingOn: "a peer to go back to: the primary, or a sync that waits for its heir",
      operator: isFrozen(scene.state) ? "manatee-adm unfreeze" : `${FORCE_TAKEOVER}, if neither comes back`,
    };
  // The shard has moved on meanwhile. Untouched it finds out as a standby whether, and against whom, it has forked now; otherwise it goes back to whoever
  // can be followed: it has reported nothing since the version was raised.
  if (source.peer.id !== rejoining.from)
    return {
      ...base,
      because: `${because}, which is no longer the one to go back to`,
      memory: { rejoining: touched && mark?.incomplete ? { ...rejoining, from: source.peer.id } : undefined },
      lookAgainAfterMs: 1,
    };
  if (!leftBehind && !obs.postgres.forks.includes(rejoining.fork))
    return attempt(obs, { ...base, action: { kind: "keep-fork", name: rejoining.fork } });
  const { canRollBack } = obs.postgres;
  const by = leftBehind ? "copy" : nextWay(touched?.by, { canRollBack, incomplete: mark?.incomplete ?? true });
  const why = touched ? `${because}; ${touched.by} did not do: ${failed?.message ?? "it was cut short"}` : because;
  const tried: Rejoining = { ...rejoining, touched: { by, at: obs.now } };
  if (by === "copy") return copyStep(scene, source.peer, why, tried);
  return attempt(obs, {
    ...base,
    because: why,
    action: by === "rewind" ? { kind: by, from: source.peer } : { kind: by, from: source.peer, fork: rejoining.fork },
    memory: { rejoining: tried },
  });
}

/** A peer without data (or with what is left of a copy) copies from whoever {@link sourceOf} names. */
export function restore(scene: Scene, because: string): Step {
  if (!connected(scene.obs)) return { rule: "R1", because, waitingOn: "the coordination store" };
  // Also a sync that waits for an heir: there is nothing here that could be thrown away.
  const source = sourceOf(scene);
  if (!source)
    return {
      rule: "R1",
      because,
      waitingOn: `the primary ${scene.state.primary.id} to serve`,
      lookAgainAfterMs: SOON_MS * 4,
    };
  return copyStep(scene, source.peer, because, undefined);
}

export function copyStep(scene: Scene, from: PeerEntry, because: string, rejoining: Rejoining | undefined): Step {
  return attempt(scene.obs, {
    rule: "R1",
    because: `${because}; a base backup of ${from.id}`,
    action: { kind: "copy", from, incarnation: rejoining?.incarnation ?? scene.obs.nonce },
    memory: { copying: { from: from.id, generation: scene.state.generation }, rejoining },
    lookAgainAfterMs: SOON_MS * 4,
  });
}

/** A copy under way is worth nothing once its source is not the one to go back to any more. */
export function copyIsStale(scene: Scene): PeerId | undefined {
  const { copying } = scene.memory;
  const wished = scene.obs.rebuildRequested?.from;
  const still =
    copying &&
    (copying.from === scene.state.primary.id ||
      copying.from === sourceOf(scene)?.peer.id ||
      (copying.from === wished && wishedSource(scene, wished) !== undefined));
  return copying && !still ? copying.from : undefined;
}
