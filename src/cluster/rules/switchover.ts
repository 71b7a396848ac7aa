// T3: an operator's `promote`. Sync: the primary closes, shuts down, and the sync claims once it holds the shutdown record. Async 0: S1.
// A later async: it changes places with its upstream. Within 25 s of the request it is over, one way or the other.

import type { Ms } from "../../base/units.ts";
import { syncQualified } from "../desired-postgres.ts";
import type { Announcement, DataObservation, PostgresSettings } from "../observation.ts";
import {
  attempt,
  connected,
  fenceStep,
  type PrimaryScene,
  type Scene,
  SOON_MS,
  type Step,
  writeStep,
} from "../step.ts";
import { isFrozen, type PeerEntry, type PromoteRequest, type ShardState } from "../state.ts";

/** From the moment the primary closes to the moment it goes on by itself: inside the 25 s of T3, with room for the start. */
const HANDOVER_MS: Ms = 15_000;

/** Takes up, or clears, what stands in `promote`; undefined: nothing does, or S1 sees to it. */
export function requestStep(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { state, obs } = scene;
  if (state.malformedPromote !== undefined)
    return clear(scene, `the promote request can't be read: ${state.malformedPromote}`, settings);
  const { promote } = state;
  if (!promote) return undefined;
  const mistake = mistakeIn(state, promote, obs.wallMs);
  if (mistake !== undefined) return clear(scene, mistake, settings);
  if (promote.role === "sync") return beginHandover(scene, promote, settings);
  const index = promote.asyncIndex as number;
  if (index === 0) return undefined;
  const async = [...state.async];
  async.splice(index - 1, 2, state.async[index] as PeerEntry, state.async[index - 1] as PeerEntry);
  return writeStep(
    scene,
    "other",
    { ...state, async, promote: undefined },
    {
      rule: "T3",
      because: `an operator asked to promote ${promote.id}, which changes places with its upstream`,
      settings,
    },
  );
}

/** F1: a request on a frozen shard is answered at once, by clearing it. */
export function clearFrozenRequest(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { state } = scene;
  if (!state.promote && state.malformedPromote === undefined) return undefined;
  return clear(scene, "the shard is frozen: the promote request is cleared", settings);
}

/** What is wrong with the request; undefined: nothing. */
function mistakeIn(state: ShardState, promote: PromoteRequest, wallMs: number): string | undefined {
  const what = `the request to promote ${promote.id}`;
  const expires = Date.parse(promote.expireTime);
  if (Number.isNaN(expires)) return `${what} has no time of expiry that can be read`;
  if (expires < wallMs) return `${what} has expired`;
  if (promote.generation !== state.generation)
    return `${what} is for generation ${promote.generation}, and this is ${state.generation}`;
  const named = promote.role === "sync" ? state.sync : state.async[promote.asyncIndex ?? -1];
  if (named?.id !== promote.id)
    return `${what} says it is ${promote.role}${promote.asyncIndex === undefined ? "" : ` ${promote.asyncIndex}`}, which it is not`;
  return undefined;
}

function clear(scene: PrimaryScene, because: string, settings: PostgresSettings): Step {
  return writeStep(
    scene,
    "other",
    { ...scene.state, promote: undefined, malformedPromote: undefined },
    { rule: "T3", because, settings },
  );
}

function beginHandover(scene: PrimaryScene, promote: PromoteRequest, settings: PostgresSettings): Step | undefined {
  const { obs, state } = scene;
  const because = `an operator asked to promote ${promote.id}`;
  const heirs = obs.store.election.filter(
    ({ peer, announcement }) => peer.id !== scene.me && peer.id !== promote.id && announcement?.phase === "following",
  );
  // A sync that is lost meanwhile is S1's affair; the request is then for another generation.
  if (!syncQualified(scene)) return undefined;
  const waitingOn =
    heirs.length === 0 && !obs.policy.takeoverAlone
      ? "a third peer that follows: the new primary needs a sync"
      : scene.server.settings.gate !== "open" || state.provisional
        ? "this generation to be served first"
        : undefined;
  if (waitingOn) return { rule: "T3", because, settings, waitingOn, lookAgainAfterMs: SOON_MS * 2 };
  return {
    rule: "T3",
    because,
    settings,
    memory: {
      handingOver: { since: obs.now, generation: state.generation, checkpointed: false },
      replacing: undefined,
    },
    lookAgainAfterMs: 1,
  };
}

/** A checkpoint while clients still write (so that the shutdown's is short); then closed to new ones, and a fast stop, which ends sessions and sends all WAL to the sync. */
export function handOver(scene: PrimaryScene, settings: PostgresSettings): Step {
  const { memory, obs, server } = scene;
  const handingOver = memory.handingOver as NonNullable<typeof memory.handingOver>;
  const base = {
    rule: "T3",
    because: "this primary hands over to its sync",
    settings,
    lookAgainAfterMs: SOON_MS / 2,
  } as const;
  const stale = handingOver.generation !== scene.state.generation || scene.state.promote === undefined;
  // The gate stays closed here: P1 opens it again, when the sync holds also what ended sessions have left.
  if (stale || isFrozen(scene.state))
    return {
      ...base,
      because: "the request to hand over is gone",
      memory: { handingOver: undefined },
      lookAgainAfterMs: 1,
    };
  if (obs.now - handingOver.since >= HANDOVER_MS) {
    const step = clear(scene, "handing over took too long", settings);
    return { ...step, memory: { ...step.memory, handingOver: undefined } };
  }
  if (!handingOver.checkpointed)
    return { ...base, action: { kind: "checkpoint" }, memory: { handingOver: { ...handingOver, checkpointed: true } } };
  const other = server.walsenders.find((walsender) => walsender.name !== scene.state.sync?.pgUrl);
  if (other)
    return {
      ...base,
      because: `${base.because}; other walsenders end first`,
      action: { kind: "end-walsender", pid: other.pid },
    };
  return attempt(obs, { ...base, action: { kind: "stop", mode: "fast" } });
}

/** The server is down. If it shut down cleanly, the sync may claim; if nobody does in time, this primary raises the version and starts again. */
export function afterHandover(scene: Scene, data: Extract<DataObservation, { kind: "present" }>): Step {
  const { memory, obs, state } = scene;
  const handingOver = memory.handingOver as NonNullable<typeof memory.handingOver>;
  const clean = data.controlState === "shutdown" && handingOver.generation === state.generation;
  // Whoever may claim does so by the request, and not while the shard is frozen.
  const claimable = state.promote !== undefined && !isFrozen(state);
  if (clean && claimable && obs.now - handingOver.since < HANDOVER_MS && connected(obs))
    return {
      rule: "T3",
      because: "this primary has shut down to hand over",
      waitingOn: `${state.sync?.id ?? "the sync"} to claim generation ${state.generation + 1}`,
      lookAgainAfterMs: SOON_MS,
    };
  const because = !clean
    ? "this primary did not shut down cleanly: it goes on"
    : claimable
      ? "the sync did not claim in time"
      : "the request was taken back, or the shard was frozen: this primary goes on";
  const step = fenceStep(scene, because, { change: { promote: undefined } });
  return step.action
    ? {
        ...step,
        rule: "T3",
        memory: { ...step.memory, handingOver: undefined, fenced: false, startVersion: scene.version },
      }
    : { ...step, rule: "T3" };
}

/** What the announcement says of it: the record whose end the sync must hold. */
export function handoverOf(scene: Scene): Announcement["handover"] {
  const { memory, obs, state } = scene;
  const { data, server } = obs.postgres;
  if (!memory.handingOver || memory.handingOver.generation !== state.generation) return undefined;
  if (server.kind !== "stopped" || data.kind !== "present" || data.controlState !== "shutdown") return undefined;
  return { generation: state.generation, checkpoint: data.checkpoint };
}
