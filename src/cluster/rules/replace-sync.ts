// S1: the primary names another sync. Three ordered steps, each decided when the effect of the one before is seen:
// (1) require both for every commit; (2) note a position, wait until the new one has flushed it, write the generation; (3) require the new one only.

import type { Replacing } from "../decision.ts";
import { requiredInForce, requiredNames, strayWalsender, syncQualified, flowsTo } from "../desired-postgres.ts";
import { judgeGone } from "../gone.ts";
import type { PostgresSettings } from "../observation.ts";
import {
  candidateOf,
  entryFrom,
  fenceStep,
  isLost,
  type PrimaryScene,
  presentAs,
  SOON_MS,
  type Step,
  waited,
  walsenderOf,
  writeStep,
} from "../step.ts";
import { addressOf, type PeerEntry } from "../state.ts";

/** Why the sync must be replaced; undefined: it need not. A clause that follows "the sync". */
export function reasonToReplace(scene: PrimaryScene): string | undefined {
  const { state, obs } = scene;
  if (state.sync === null) return state.oneNodeWriteMode ? undefined : "is to be named: one-node-write mode has ended";
  if (promotedAsync(scene)) return "changes places with the first async, as requested";
  if (syncQualified(scene)) return undefined;
  const missingMs = waited(scene, "sync");
  // The sync of generation 1 makes its first copy: others are not preferred to it for a while.
  if (
    state.sync.incarnation === undefined &&
    missingMs < obs.policy.opsTimeoutMs * 3 &&
    candidateOf(obs, state.sync.id) &&
    !isReady(scene, state.sync)
  )
    return undefined;
  const found = candidateOf(obs, state.sync.id)?.announcement;
  if (found && found.incarnation !== state.sync.incarnation)
    return `has other data (incarnation ${found.incarnation ?? "none"}) than the state names`;
  const verdict = judgeGone(obs, state, state.sync, { flows: flowsTo(scene, state.sync) });
  if (verdict.gone) return verdict.because;
  const evidence = obs.peers[state.sync.id];
  if (evidence?.sitter.kind === "answers" && evidence.postgresHealthy === false && missingMs >= obs.policy.suspectMs)
    return "is there, but its PostgreSQL is not well";
  if (missingMs >= obs.policy.opsTimeoutMs) return "is there, but does not stream";
  return undefined;
}

/** T3: `promote` of async 0 is S1 on request. */
function promotedAsync(scene: PrimaryScene): boolean {
  const { promote } = scene.state;
  return promote?.role === "async" && promote.asyncIndex === 0;
}

/** Who may become sync: the first async that streams from here and is nearly caught up; else the same peer under its new incarnation. */
export function findCandidate(scene: PrimaryScene): PeerEntry | undefined {
  const { state, obs } = scene;
  const ready = (peer: PeerEntry): boolean => isReady(scene, peer);
  // The sync of generation 1 had no data yet: its own copy comes first.
  if (state.sync !== null && state.sync.incarnation === undefined && ready(state.sync)) return state.sync;
  const found = promotedAsync(scene) ? state.async.slice(0, 1).find(ready) : state.async.find(ready);
  if (found) return found;
  if (state.sync === null) {
    const volunteer = obs.store.election.find(
      (entry) =>
        entry.peer.id !== scene.me &&
        entry.announcement?.phase === "following" &&
        ready(entryFrom(entry.peer, entry.announcement.incarnation)),
    );
    return volunteer && entryFrom(volunteer.peer, volunteer.announcement?.incarnation);
  }
  return !presentAs(obs, state.sync) && ready(state.sync) ? state.sync : undefined;
}

/** Streams from here, is nearly caught up, and says which data it has. */
function isReady({ obs, server }: PrimaryScene, peer: PeerEntry): boolean {
  const walsender = walsenderOf(server, peer);
  return (
    candidateOf(obs, peer.id)?.announcement?.incarnation !== undefined &&
    walsender?.state === "streaming" &&
    walsender.flush !== undefined &&
    // One whose replay is paused could not take over.
    server.wal.end - (walsender.replay ?? walsender.flush) <= BigInt(obs.policy.syncLagBytesMax) &&
    server.wal.end - walsender.flush <= BigInt(obs.policy.syncLagBytesMax)
  );
}

/** The first async that could be asked to stream from here; it does so by following `callsFor`. */
export function asyncToCall(scene: PrimaryScene): PeerEntry | undefined {
  return scene.state.async.find((peer) => {
    const found = candidateOf(scene.obs, peer.id)?.announcement;
    return found?.incarnation !== undefined && found.phase !== "restoring" && found.phase !== "diverged";
  });
}

export function replaceSync(scene: PrimaryScene, reason: string, settings: PostgresSettings): Step {
  const { obs, memory } = scene;
  const because = scene.state.sync ? `the sync ${scene.state.sync.id} ${reason}` : `a sync ${reason}`;
  const candidate = findCandidate(scene);
  if (!candidate) {
    const called = asyncToCall(scene);
    const alone = { ...scene, memory: { ...memory, replacing: undefined } };
    return {
      rule: "S1",
      because,
      // Nothing was written yet: it may simply be given up.
      settings: { ...settings, syncNames: requiredNames(alone) },
      waitingOn: called
        ? `${called.id} to stream from here`
        : "the sync to come back, or another peer to stream from here",
      ...(waited(scene, "sync") >= obs.policy.opsTimeoutMs * 3 && {
        operator: "start another peer, or manatee-adm set-onwm -m on",
      }),
      memory: { replacing: undefined },
    };
  }
  const incarnation = candidateOf(obs, candidate.id)?.announcement?.incarnation as string;
  const current = memory.replacing;
  if (
    !current ||
    current.candidate.id !== candidate.id ||
    current.version !== scene.version ||
    current.incarnation !== incarnation
  ) {
    const replacing: Replacing = {
      candidate: addressOf(candidate),
      since: current?.since ?? obs.now,
      version: scene.version,
      incarnation,
      token: `S1:${scene.version}:${obs.nonce}`,
    };
    const next = { ...scene, memory: { ...memory, replacing } };
    return {
      rule: "S1",
      because,
      settings: { ...settings, syncNames: requiredNames(next) },
      waitingOn: "commits to wait for both the new and the old sync",
      memory: { replacing },
      lookAgainAfterMs: SOON_MS,
    };
  }
  return continueReplacing(scene, { current, candidate, because, settings });
}

function continueReplacing(
  scene: PrimaryScene,
  {
    current,
    candidate,
    because,
    settings,
  }: { current: Replacing; candidate: PeerEntry; because: string; settings: PostgresSettings },
): Step {
  const { server, obs, state } = scene;
  const base = { rule: "S1", because, settings, lookAgainAfterMs: SOON_MS } as const;
  if (!requiredInForce(scene)) {
    const laggard = strayWalsender(scene);
    return laggard && obs.now - current.since >= obs.policy.suspectMs
      ? {
          ...base,
          because: `${because}; the walsender of ${laggard.name} has not applied the new list`,
          action: { kind: "end-walsender", pid: laggard.pid },
        }
      : { ...base, waitingOn: "commits to wait for both the new and the old sync" };
  }
  if (server.marker?.token !== current.token)
    return {
      ...base,
      action: { kind: "write-marker", token: current.token, ...(state.sync === null && { checkpoint: true }) },
    };
  const flushed = walsenderOf(server, candidate)?.flush;
  if (flushed === undefined || flushed < server.marker.lsn)
    return { ...base, waitingOn: `${candidate.id} to flush what this primary has` };
  const promoted = promotedAsync(scene);
  const entry = entryFrom(candidate, current.incarnation, candidate);
  const old = state.sync && state.sync.id !== candidate.id ? state.sync : undefined;
  const others = state.async.filter((peer) => peer.id !== candidate.id);
  return writeStep(
    scene,
    "S1",
    {
      ...state,
      generation: state.generation + 1,
      sync: entry,
      async: promoted && old ? [old, ...others] : others,
      deposed: state.deposed.filter((peer) => peer.id !== candidate.id),
      initWal: server.marker.lsn,
      initTimeline: server.wal.timeline,
      timeline: server.wal.timeline,
      highestTimeline: Math.max(state.highestTimeline, server.wal.timeline),
      provisional: false,
      ...(promoted ? { promote: undefined } : {}),
    },
    { rule: "S1", because: `${because}; ${candidate.id} has all that was committed`, settings },
  );
}

/** A write of S1 (or of anything else) whose end is not known: both stay required; after the bound the version is raised, which ends it. */
export function resolveSent(scene: PrimaryScene, settings: PostgresSettings): Step | undefined {
  const { sent } = scene.memory;
  if (!sent) return undefined;
  if (isLost(scene)) {
    const because = `the outcome of a write (${sent.what}) on version ${sent.version} is unknown`;
    return fenceStep(scene, because, {}, settings);
  }
  return {
    rule: sent.rule,
    because: `a write was sent on version ${sent.version}`,
    settings,
    waitingOn: "a newer version of the state to be read",
    lookAgainAfterMs: SOON_MS * 2,
  };
}
