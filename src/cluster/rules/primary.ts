// The peer that the state names primary: resume or promote, never a bare start; then serve.

import { containsPoint, reach } from "../../base/lineage.ts";
import { NEUTRAL, requiredNames } from "../desired-postgres.ts";
import { type DataObservation, markOf } from "../observation.ts";
import type { Ms } from "../../base/units.ts";
import {
  attempt,
  electionEntryOf,
  connected,
  fenceStep,
  FORCE_TAKEOVER_ELSEWHERE,
  RESUME_REPLAY,
  type Scene,
  SOON_MS,
  type Step,
  type StandbyScene,
} from "../step.ts";
import { isFrozen } from "../state.ts";
import { serve } from "./serve.ts";
import { afterHandover } from "./switchover.ts";

export function decideAsPrimary(scene: Scene): Step {
  const { obs, state, memory } = scene;
  const { data, server, job } = obs.postgres;
  const mark = markOf(data);
  if (data.kind !== "present" || mark?.incarnation !== state.primary.incarnation)
    return startNothing(scene, mark?.incarnation);
  if (state.systemIdentifier !== undefined && data.systemIdentifier !== state.systemIdentifier)
    return {
      rule: "RESUME",
      because: `the database here has system identifier ${data.systemIdentifier}, not the shard's ${state.systemIdentifier}`,
      waitingOn: "an operator",
      operator: FORCE_TAKEOVER_ELSEWHERE,
    };
  if (job && job.kind !== "stop")
    return {
      rule: job.kind === "promote" ? "T1" : "RESUME",
      // What the promoted server will need takes time to be in force: it is put there meanwhile.
      ...(job.kind === "promote" && state.sync && { settings: { ...NEUTRAL, syncNames: requiredNames(scene) } }),
      because: `${job.kind} is under way`,
      waitingOn: job.progress ?? `${job.kind} to end`,
      lookAgainAfterMs: SOON_MS / 2,
    };
  switch (server.kind) {
    case "stopped":
      return job
        ? { rule: "RESUME", because: "PostgreSQL is stopping", waitingOn: "it to end", lookAgainAfterMs: SOON_MS }
        : startAgain(scene, data);
    case "starting":
      return {
        rule: "RESUME",
        because: "PostgreSQL is starting",
        waitingOn: "it to accept connections",
        ...(obs.now - server.since >= obs.policy.opsTimeoutMs * 6 && { operator: LOOK_AT_SERVER }),
        lookAgainAfterMs: SOON_MS / 2,
      };
    case "unresponsive":
      return unresponsive(scene, server.since, server.reason);
    case "standby":
      return promote({ ...scene, server });
    case "primary":
      if (job?.kind === "stop")
        return { rule: "T3", because: "PostgreSQL is stopping", waitingOn: "it to end", lookAgainAfterMs: SOON_MS };
      if (reach(server.wal, state.timeline) === undefined)
        return attempt(obs, {
          rule: "RESUME",
          because: `this server is on timeline ${server.wal.timeline}, which does not contain the state's timeline ${state.timeline}`,
          action: { kind: "stop", mode: "immediate" },
        });
      // It answers again before it was ended: others must not go on taking it for gone.
      if (memory.abdicating && !memory.abdicating.over && server.cannotGoOn === undefined)
        return {
          rule: "T2",
          because: "PostgreSQL answers again: this generation is not given up",
          memory: { abdicating: { ...memory.abdicating, over: true } },
          lookAgainAfterMs: 1,
        };
      return (
        (server.cannotGoOn !== undefined &&
          abdicateWhileRunning(scene, `PostgreSQL can't go on: ${server.cannotGoOn}`)) ||
        serve({ ...scene, server })
      );
    default:
      return server satisfies never;
  }
}

/** Other data than the state names: start nothing, not a standby either (others would follow it). Others count it as gone (D1). */
function startNothing(scene: Scene, incarnation: string | undefined): Step {
  const { obs, state } = scene;
  const because = `the state names this peer primary with other data (incarnation ${state.primary.incarnation ?? "none"}) than is here (${incarnation ?? "none"})`;
  if (obs.postgres.server.kind !== "stopped" && obs.postgres.job?.kind !== "stop")
    return attempt(obs, {
      rule: "RESUME",
      because,
      cancelJob: obs.postgres.job !== undefined,
      action: { kind: "stop", mode: "immediate" },
    });
  const { data } = obs.postgres;
  const operator = data.kind === "unusable" ? `${data.hint}; or ${FORCE_TAKEOVER_ELSEWHERE}` : FORCE_TAKEOVER_ELSEWHERE;
  return {
    rule: "RESUME",
    because,
    waitingOn: state.sync ? `${state.sync.id} to take over, or an operator` : "an operator",
    operator,
  };
}

function startAgain(scene: Scene, data: Extract<DataObservation, { kind: "present" }>): Step {
  const { obs, state, memory } = scene;
  if (memory.handingOver) return afterHandover(scene, data);
  const { server } = obs.postgres;
  const exited = server.kind === "stopped" && server.how === "exited";
  const abdication = exited || memory.abdicating ? abdicateWhenDown(scene) : undefined;
  if (abdication) return abdication;
  // The server counts the new timeline as its own a moment before it calls itself a primary. The claimed number is nobody else's.
  const begun = data.controlState !== "recovery" || (state.provisional && data.lineage.timeline === state.timeline);
  const onTimeline =
    begun && !data.standbySignal && reach({ ...data.lineage, end: state.initWal }, state.timeline) !== undefined;
  if (!onTimeline && !state.provisional)
    return {
      rule: "RESUME",
      because: `the data here is not on timeline ${state.timeline}, on which this generation was served: it was put back behind the sitter's back`,
      waitingOn: state.sync ? `${state.sync.id} to take over, or an operator` : "an operator",
      operator: FORCE_TAKEOVER_ELSEWHERE,
    };
  if (!memory.fenced || memory.sent) {
    const because = "PostgreSQL is down here, and starting it writes WAL: no write sent before may land after that";
    return fenceStep(scene, because);
  }
  if (onTimeline)
    return attempt(obs, {
      rule: "RESUME",
      because: `this peer is primary of generation ${state.generation}, with the data that the state names`,
      action: { kind: "start", as: "primary", settings: NEUTRAL, unfinishedTimeline: undefined },
      lookAgainAfterMs: SOON_MS / 2,
    });
  return attempt(obs, {
    rule: "RESUME",
    because: `promotion to timeline ${state.timeline} was cut short: it is started as a standby, and promoted again`,
    action: { kind: "start", as: "standby", settings: NEUTRAL, unfinishedTimeline: state.timeline },
    lookAgainAfterMs: SOON_MS / 2,
  });
}

/** An abdication that nobody answered is not repeated in the same generation for this long. */
const ABDICATE_AGAIN_MS: Ms = 60_000;

/** T2, of a server that is down: this peer leaves at once instead of waiting for any time-out, where somebody can take over. undefined: it is restarted in place. */
function abdicateWhenDown(scene: Scene): Step | undefined {
  const { memory, obs, state } = scene;
  const { abdicating } = memory;
  const because = "PostgreSQL is down here, and this generation is given up";
  const waitingOn = `${state.sync?.id ?? "the sync"} to take over`;
  if (abdicating && !abdicating.over) {
    const late = obs.now - abdicating.since >= obs.policy.opsTimeoutMs;
    if (!late && !isFrozen(state)) return { rule: "T2", because, waitingOn, lookAgainAfterMs: SOON_MS * 2 };
    const why = late ? "nobody took over in time" : "the shard was frozen meanwhile";
    return {
      rule: "T2",
      because: `${why}: PostgreSQL is started again in place`,
      memory: { abdicating: { ...abdicating, over: true } },
      lookAgainAfterMs: 1,
    };
  }
  if (abdicating && obs.now - abdicating.since < ABDICATE_AGAIN_MS) return undefined;
  const stay = reasonToStay(scene);
  const since = obs.now;
  if (stay !== undefined)
    return {
      rule: "T2",
      because: `PostgreSQL died here, and is started again in place: ${stay}`,
      memory: { abdicating: { since, generation: state.generation, over: true } },
      lookAgainAfterMs: 1,
    };
  return {
    rule: "T2",
    because,
    waitingOn,
    memory: { abdicating: { since, generation: state.generation, over: false } },
    lookAgainAfterMs: SOON_MS * 2,
  };
}

function reasonToStay(scene: Scene): string | undefined {
  const { memory, obs, state } = scene;
  if (!connected(obs)) return "the store is out of reach";
  if (isFrozen(state)) return "the shard is frozen";
  if (!memory.servedWithSync) return "the sync was not streaming";
  if (memory.replacing || memory.sent) return "the sync was being replaced";
  if (state.sync && electionEntryOf(obs, state.sync.id)?.announcement?.tags?.nofailover)
    return `the sync ${state.sync.id} is tagged nofailover`;
  const heirs = obs.store.election.filter(
    ({ peer, announcement }) =>
      peer.id !== scene.me && peer.id !== state.sync?.id && announcement?.phase === "following",
  );
  if (heirs.length === 0) return "the sync would have no heir";
  if (obs.store.takeoversLastHour >= obs.policy.takeoversPerHourMax)
    return `there were ${obs.store.takeoversLastHour} takeovers in the last hour`;
  return undefined;
}

const LOOK_AT_SERVER = "find out what holds it up: its log, the disk, the machine's load";
const STOP = { kind: "stop", mode: "immediate" } as const;

/** T2, of a server that runs: the generation is given up where somebody can take over, and the server then ended. undefined: neither. */
function abdicateWhileRunning(scene: Scene, because: string): Step | undefined {
  const { obs, memory, state } = scene;
  const { abdicating } = memory;
  if (abdicating && !abdicating.over) return attempt(obs, { rule: "T2", because, action: STOP });
  if (abdicating && obs.now - abdicating.since < ABDICATE_AGAIN_MS) return undefined;
  if (reasonToStay(scene) !== undefined) return undefined;
  return {
    rule: "T2",
    because: `${because}: this generation is given up`,
    memory: { abdicating: { since: obs.now, generation: state.generation, over: false } },
    lookAgainAfterMs: 1,
  };
}

/** Hung, frozen, or overloaded. */
function unresponsive(scene: Scene, since: Ms, reason: string): Step {
  const { obs } = scene;
  const because = `PostgreSQL does not answer: ${reason}`;
  const forMs = obs.now - since;
  const step = forMs >= obs.policy.opsTimeoutMs ? abdicateWhileRunning(scene, because) : undefined;
  if (step) return step;
  if (forMs >= obs.policy.opsTimeoutMs * 6)
    return attempt(obs, { rule: "T2", because: `${because}; it is started again`, action: STOP });
  return {
    rule: "T2",
    because,
    waitingOn: "it to answer",
    operator: LOOK_AT_SERVER,
    lookAgainAfterMs: SOON_MS * 4,
  };
}

/** T1.5: the claim was read. Sessions that were open on the standby end first: they would write with the gate closed. */
function promote(scene: StandbyScene): Step {
  const { state, server, obs } = scene;
  const because = `the state names this peer primary of generation ${state.generation}`;
  const base = { rule: "T1", because, settings: NEUTRAL, lookAgainAfterMs: SOON_MS / 2 } as const;
  if (!state.provisional)
    return attempt(obs, {
      ...base,
      because: `${because}, but a standby runs here though the generation was served`,
      action: { kind: "stop", mode: "fast" },
    });
  if (!server.caughtUpLocally)
    return {
      ...base,
      waitingOn: "its own WAL to be replayed",
      ...(server.replayPaused ? { operator: RESUME_REPLAY } : {}),
    };
  if (!containsPoint(server.wal, { timeline: state.initTimeline, lsn: state.initWal }))
    return {
      ...base,
      waitingOn: "an operator: the WAL here does not reach the beginning of this generation",
      operator: FORCE_TAKEOVER_ELSEWHERE,
    };
  if (server.receiver.kind !== "none") {
    return server.settings.upstream === null
      ? { ...base, action: { kind: "end-receiver", pid: server.receiver.pid } }
      : { ...base, waitingOn: "receiving to stop" };
  }
  if (server.settings.gate !== "closed") return { ...base, waitingOn: "the gate to close" };
  if (server.clientSessions > 0) return { ...base, action: { kind: "end-clients" } };
  return attempt(obs, { ...base, action: { kind: "promote", timeline: state.timeline } });
}
