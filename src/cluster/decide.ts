// What a peer should do next: a pure function of what it observes and remembers. Level-triggered: an event only means "look again", and the same
// observation always gives the same decision. One step at a time; no choice is left to whoever carries it out.

import { containsPoint } from "../base/lineage.ts";
import type { Ms } from "../base/units.ts";
import { generationIn } from "./codec.ts";
import { type Decision, type Memory, NO_WAITS } from "./decision.ts";
import { requiredStandbys, strayWalsender, syncQualified } from "./desired-postgres.ts";
import {
  answeringServer,
  isFounding,
  markOf,
  type Announcement,
  type Observation,
  type PrimaryServer,
  type StandbyServer,
} from "./observation.ts";
import { decideWithoutState } from "./rules/bootstrap.ts";
import { isolationStep } from "./rules/isolation.ts";
import { decideAsPrimary } from "./rules/primary.ts";
import { asyncToCall, findCandidate, reasonToReplace } from "./rules/replace-sync.ts";
import { decideAsStandby } from "./rules/standby.ts";
import { handoverOf } from "./rules/switchover.ts";
import { findHeir } from "./rules/takeover.ts";
import { formatTags } from "./tags.ts";
import { connected, IDLE_MS, type PrimaryScene, type Scene, type Step } from "./step.ts";
import { isFrozen, KNOWN_FEATURES, roleOf } from "./state.ts";

export function decide(obs: Observation, before: Memory): Decision {
  const memory = settle(obs, before);
  const scene = sceneOf(obs, memory);
  const step = chooseStep(obs, memory, scene);
  const after: Memory = { ...memory, ...step.memory };
  return {
    rule: step.rule,
    because: step.because,
    waitingOn: step.waitingOn,
    operator: step.operator,
    announce: connected(obs) ? announcementOf(obs, after, scene && { ...scene, memory: after }) : undefined,
    settings: answeringServer(obs.postgres.server) && step.settings,
    action: step.action,
    cancelJob: step.cancelJob ?? false,
    memory: after,
    lookAgainAfterMs: step.lookAgainAfterMs ?? IDLE_MS,
  };
}

function chooseStep(obs: Observation, memory: Memory, scene: Scene | undefined): Step {
  const { shard } = obs.store;
  if (shard.kind === "unread")
    return (
      closeUnread(obs, memory) ?? {
        rule: "Z1",
        because: "the state was not read since this sitter started",
        waitingOn: "the coordination store",
      }
    );
  if (shard.kind === "unreadable")
    return {
      rule: "Z1",
      because: `the state document can't be acted on: ${shard.message}`,
      waitingOn: "an operator",
      operator: shard.hint,
    };
  if (!scene) return decideWithoutState(obs, memory);
  const seen = generationSeen(obs);
  if (seen > scene.state.generation)
    return {
      rule: "B1",
      because: `this peer has seen generation ${seen}, and the document in the store is of generation ${scene.state.generation}: an older one was put back`,
      waitingOn: "an operator",
      operator: "manatee-adm state restore shows the documents that the peers saw, and writes the one that you choose",
    };
  return scene.role === "primary" ? decideAsPrimary(scene) : decideAsStandby(scene);
}

/** Of the last document that this peer saw, as its data's mark keeps it. */
function generationSeen({ postgres: { data } }: Observation): number {
  const last = markOf(data)?.lastDocument;
  return last === undefined ? 0 : generationIn(last.json);
}

/** X1, of a primary whose sitter started anew and has read nothing yet: what it finds is left as it is, but for its clients. */
function closeUnread(obs: Observation, memory: Memory): Step | undefined {
  const { server } = obs.postgres;
  if (server.kind !== "primary" || memory.isolatedSince === undefined) return undefined;
  return isolationStep({ obs, memory, server }, server.settings);
}

/** undefined: there is no document that can be read. */
export function sceneOf(obs: Observation, memory: Memory): Scene | undefined {
  const { shard } = obs.store;
  if (shard.kind !== "document") return undefined;
  return {
    obs,
    memory,
    state: shard.state,
    version: shard.version,
    role: roleOf(shard.state, obs.self.id),
    me: obs.self.id,
  };
}

/** Brings memory up to date with what is observed: what was waited for and has come is forgotten. */
function settle(obs: Observation, before: Memory): Memory {
  const { shard, lastWrite } = obs.store;
  let memory = before;
  if (shard.kind === "document") {
    const { version } = shard;
    const startVersion = memory.startVersion ?? version;
    const fenced = memory.fenced || version > startVersion;
    // A version newer than its condition: what was sent has landed, or never will.
    const sent = memory.sent && version > memory.sent.version ? undefined : memory.sent;
    const replacing = memory.replacing && version > memory.replacing.version && !sent ? undefined : memory.replacing;
    const handingOver = memory.handingOver && shard.state.primary.id !== obs.self.id ? undefined : memory.handingOver;
    const abdicating = memory.abdicating?.generation === shard.state.generation ? memory.abdicating : undefined;
    const takingOver = shard.state.sync?.id === obs.self.id ? memory.takingOver : undefined;
    memory = { ...memory, startVersion, fenced, sent, replacing, handingOver, abdicating, takingOver };
  } else if (shard.kind === "absent") memory = { ...memory, fenced: true };
  // The store's own word that nothing of it happened, nor will; of a fence it says nothing about the write that the fence was to end.
  if (memory.sent && !memory.sent.doubtful && lastWrite?.token === memory.sent.token && lastWrite.outcome === "no")
    memory = { ...memory, sent: undefined };
  return notice(obs, memory);
}

/** What has to be remembered of what is seen now, because it is gone when it matters. */
function notice(obs: Observation, memory: Memory): Memory {
  const { server } = obs.postgres;
  const scene = sceneOf(obs, memory);
  // Starting it again writes WAL: no write sent until now may land after that.
  if (server.kind === "stopped" && memory.ranAsPrimary && scene)
    return { ...memory, ranAsPrimary: false, fenced: false, startVersion: scene.version, waits: NO_WAITS };
  if (server.kind === "primary")
    return noticePrimary(obs, memory, server, scene?.role === "primary" ? { ...scene, server } : undefined);
  if (server.kind === "standby") return noticeStandby(obs, memory, server);
  return { ...memory, waits: NO_WAITS, followed: server.kind === "stopped" ? false : memory.followed };
}

/** `scene`: where the state that was read names this peer. Without one it still is a server that may have clients. */
function noticePrimary(
  obs: Observation,
  memory: Memory,
  server: PrimaryServer,
  scene: PrimaryScene | undefined,
): Memory {
  const required = scene ? requiredStandbys(scene).map(({ pgUrl }) => pgUrl) : server.settings.syncNames;
  const streaming = required.every((name) =>
    server.walsenders.some(
      (w) => w.name === name && w.state === "streaming" && (w.silentMs ?? 0) < obs.policy.suspectMs,
    ),
  );
  const isolatedSince = connected(obs) || streaming ? undefined : (memory.isolatedSince ?? obs.now);
  if (!scene) return { ...memory, isolatedSince, waits: NO_WAITS };
  const qualified = syncQualified(scene);
  const { waits } = memory;
  return {
    ...memory,
    ranAsPrimary: true,
    servedWithSync: qualified && server.settings.gate === "open" && !scene.state.provisional,
    isolatedSince,
    waits: {
      ...NO_WAITS,
      sync: since(waits.sync, obs.now, !qualified),
      replace: since(waits.replace, obs.now, reasonToReplace(scene) !== undefined),
      stray: since(waits.stray, obs.now, strayWalsender(scene) !== undefined),
    },
  };
}

/** An upstream that could not be reached is passed over for this long. */
const AVOID_MS = 30_000;

/** When what holds now began: as it was noted, or now. */
function since(noted: Ms | undefined, now: Ms, holds: boolean): Ms | undefined {
  return holds ? (noted ?? now) : undefined;
}

function noticeStandby(obs: Observation, memory: Memory, server: StandbyServer): Memory {
  const { receiver, settings, replayPaused, walGoneAt } = server;
  const { waits } = memory;
  const { now } = obs;
  const streaming = receiver.kind === "streaming" && receiver.silentMs < obs.policy.suspectMs;
  const failing = waits.receiver !== undefined && now - waits.receiver >= obs.policy.suspectMs;
  const avoided = Object.entries(waits.avoided).filter(([, noted]) => now - noted <= AVOID_MS);
  const useless = (failing && !streaming) || walGoneAt === settings.upstream?.id;
  const avoidedAnew = useless && settings.upstream ? [[settings.upstream.id, now] as const] : [];
  return {
    ...memory,
    waits: {
      ...NO_WAITS,
      // While replay is paused PostgreSQL connects to nobody: no upstream's fault.
      receiver: since(waits.receiver, now, !streaming && settings.upstream !== null && !replayPaused),
      silent: since(waits.silent, now, !streaming),
      stopping: since(waits.stopping, now, settings.upstream === null && receiver.kind !== "none"),
      // One that is noted already stays noted since then.
      avoided: Object.fromEntries([...avoidedAnew, ...avoided]),
    },
    followed: memory.followed || streaming,
    copying: obs.postgres.job?.kind === "copy" ? memory.copying : undefined,
  };
}

/** What this peer's election node should say. */
function announcementOf(obs: Observation, memory: Memory, scene: Scene | undefined): Announcement {
  const { data, server, job } = obs.postgres;
  const mark = markOf(data);
  // Data that is only being founded is nobody's: whoever founds the shard instead must not name it.
  const founding = isFounding(mark, scene?.state);
  const usable = mark !== undefined && !mark.incomplete && !founding;
  const role = scene?.role;
  const primary = server.kind === "primary" && role === "primary";
  const diverged = memory.rejoining !== undefined || (mark?.incomplete ?? false);
  const phase: Announcement["phase"] =
    job?.kind === "copy"
      ? "restoring"
      : primary
        ? "primary"
        : diverged
          ? "diverged"
          : memory.followed && server.kind === "standby"
            ? "following"
            : "idle";
  return {
    incarnation: usable || memory.rejoining ? mark?.incarnation : undefined,
    data:
      data.kind === "none" || (founding && !mark?.adopted)
        ? "none"
        : mark && mark.shard === obs.shard && !founding
          ? "marked"
          : "foreign",
    systemIdentifier: data.kind === "present" && usable ? data.systemIdentifier : undefined,
    features: KNOWN_FEATURES,
    phase,
    serving:
      primary && scene
        ? { generation: scene.state.generation, lineage: { past: server.wal.past, timeline: server.wal.timeline } }
        : undefined,
    handover: scene && handoverOf(scene),
    abdicates: memory.abdicating && !memory.abdicating.over ? memory.abdicating.generation : undefined,
    callsFor: scene && primary ? calledFor(scene) : undefined,
    standing: scene ? standingOf(scene) : undefined,
    tags: obs.tags === undefined || formatTags(obs.tags) === "" ? undefined : obs.tags,
  };
}

/** S1: whom the primary asks to receive from it directly. */
function calledFor(scene: Scene): string | undefined {
  const { server } = scene.obs.postgres;
  if (server.kind !== "primary" || !scene.memory.fenced || isFrozen(scene.state)) return undefined;
  const primary = { ...scene, server };
  if (reasonToReplace(primary) === undefined) return undefined;
  return (findCandidate(primary) ?? asyncToCall(primary))?.id;
}

/** T1 without an heir: a sync that has stopped receiving shows all its WAL. */
function standingOf(scene: Scene): Announcement["standing"] {
  const { server } = scene.obs.postgres;
  if (server.kind !== "standby" || !scene.memory.takingOver || !server.caughtUpLocally) return undefined;
  if (server.settings.upstream !== null || server.receiver.kind !== "none" || findHeir({ ...scene, server }))
    return undefined;
  return containsPoint(server.wal, { timeline: scene.state.initTimeline, lsn: scene.state.initWal })
    ? server.wal
    : undefined;
}
