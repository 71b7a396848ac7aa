// S1: the primary names another sync. Three ordered steps, each decided when the effect of the one before is seen:
// (S1.2) require both for every commit; (S1.3) note a position, wait until the new one has flushed it, write the generation; (S1.4) require the new one only.

import type { Replacing } from "../decision.ts";
import {
  requiredApplied,
  requiredInForce,
  requiredNames,
  sameNames,
  strayWalsender,
  syncQualified,
} from "../desired-postgres.ts";
import { utf8Length } from "../../base/text.ts";
import { isMissed, isSilent, judgeGone, silenceLimit } from "../gone.ts";
import type { ElectionEntry, PostgresSettings } from "../observation.ts";
import {
  electionEntryOf,
  entryFrom,
  fenceStep,
  isOutcomeLost,
  type PrimaryScene,
  presentAs,
  SOON_MS,
  type Step,
  waited,
  walsenderOf,
  writeStep,
} from "../step.ts";
import { addressOf, chainOf, NAME_BYTES_MAX, type PeerEntry } from "../state.ts";
import { compareAsSync, lastResort, type Tags } from "../tags.ts";

/** Why the sync must be replaced; undefined: it need not. A clause that follows "the sync". */
export function reasonToReplace(scene: PrimaryScene): string | undefined {
  return reasonToLeave(scene) ?? reasonToGiveWay(scene);
}

/** K1.3: the sync does its part, and is tagged so that another one that is there goes before it. */
function reasonToGiveWay(scene: PrimaryScene): string | undefined {
  const { state, obs } = scene;
  const tag = state.sync && !state.provisional ? lastResort(tagsOf(scene, state.sync)) : undefined;
  if (tag === undefined) return undefined;
  const better = state.async.find(
    (peer) =>
      isPreferred(scene, peer) &&
      electionEntryOf(obs, peer.id)?.announcement?.phase === "following" &&
      !isMissed(obs, peer.id),
  );
  return better && `is tagged ${tag}, and ${better.id} is not`;
}

function tagsOf({ obs }: PrimaryScene, peer: PeerEntry): Tags | undefined {
  return electionEntryOf(obs, peer.id)?.announcement?.tags;
}

/** Not a last resort by its tags. */
function isPreferred(scene: PrimaryScene, peer: PeerEntry): boolean {
  return lastResort(tagsOf(scene, peer)) === undefined;
}

/** Why the present sync can't stay, whoever else is there. */
export function reasonToLeave(scene: PrimaryScene): string | undefined {
  const { state, obs } = scene;
  if (state.sync === null) return state.oneNodeWriteMode ? undefined : "is to be named: one-node-write mode has ended";
  if (promotedAsync(scene)) return "changes places with the first async, as requested";
  const walsender = walsenderOf(scene.server, state.sync);
  const flows = walsender?.state === "streaming" && (walsender.silentMs ?? 0) < silenceLimit(obs, state.sync.id);
  const verdict = judgeGone(obs, state, state.sync, { flows });
  // To lose its sync costs a shard nothing but the time of S1: what this peer sees needs no second witness here.
  const silent = !flows && isSilent(obs, state.sync.id);
  if (syncQualified(scene) && !verdict.gone && !silent) return undefined;
  const missingMs = waited(scene, "sync");
  // The sync of generation 1 makes its first copy: others are not preferred to it for a while.
  if (
    state.sync.incarnation === undefined &&
    missingMs < obs.policy.opsTimeoutMs * 3 &&
    electionEntryOf(obs, state.sync.id) &&
    !isReady(scene, state.sync)
  )
    return undefined;
  const found = electionEntryOf(obs, state.sync.id)?.announcement;
  if (found && found.incarnation !== state.sync.incarnation)
    return `has other data (incarnation ${found.incarnation ?? "none"}) than the state names`;
  if (verdict.gone) return verdict.because;
  if (silent) return "is silent from here";
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

/**
 * Who may become sync: an async that streams from here and is nearly caught up; the same peer under its new incarnation; whoever else follows
 * and could join the chain (A1), a deposed one too. Among those the tags decide, else this order. A sync that only gives way does so to none that is tagged
 * itself.
 */
export function findCandidate(scene: PrimaryScene): PeerEntry | undefined {
  const { state, obs } = scene;
  const ready = (peer: PeerEntry): boolean => isReady(scene, peer);
  // The sync of generation 1 had no data yet: its own copy comes first.
  if (state.sync !== null && state.sync.incarnation === undefined && ready(state.sync)) return state.sync;
  const renewed = state.sync !== null && !presentAs(obs, state.sync) && ready(state.sync) ? [state.sync] : [];
  if (promotedAsync(scene)) return [...state.async.slice(0, 1).filter(ready), ...renewed][0];
  const volunteers = obs.store.election
    .filter((entry) => joinable(scene, entry) && !state.async.some(({ id }) => id === entry.peer.id))
    .map((entry) => entryFrom(entry.peer, entry.announcement?.incarnation))
    .filter(ready);
  const compare = compareAsSync(obs.tags);
  const all = [...state.async.filter(ready), ...renewed, ...volunteers];
  const [best] = [...all].sort((a, b) => compare(tagsOf(scene, a), tagsOf(scene, b)));
  // To change horses means to begin anew: only who should not be sync at all is left for a better one.
  const begun = all.find(({ id }) => id === scene.memory.replacing?.candidate.id);
  if (!begun && isWorthWaiting(scene, best)) return undefined;
  const first = begun && best && (isPreferred(scene, begun) || !isPreferred(scene, best)) ? begun : best;
  return first && (isPreferred(scene, first) || reasonToLeave(scene) !== undefined) ? first : undefined;
}

/** K1.4: an async that goes before the best one that is ready, and could stream from here soon. */
function isWorthWaiting(scene: PrimaryScene, best: PeerEntry | undefined): boolean {
  if (waited(scene, "replace") >= scene.obs.policy.suspectMs) return false;
  const called = asyncToCall(scene);
  return (
    best !== undefined &&
    called !== undefined &&
    !isMissed(scene.obs, called.id) &&
    compareAsSync(scene.obs.tags)(tagsOf(scene, called), tagsOf(scene, best)) < 0
  );
}

/** A1: a peer that follows and is not in the chain, or is there under another incarnation. */
export function joinable(scene: PrimaryScene, { peer, announcement }: ElectionEntry): boolean {
  const { state } = scene;
  if (!announcement || announcement.phase !== "following" || announcement.incarnation === undefined) return false;
  if (peer.id === scene.me || peer.id === state.sync?.id) return false;
  if (isMissed(scene.obs, peer.id)) return false;
  // In the chain it may have to act on the document.
  if (!state.requires.every((feature) => announcement.features.includes(feature))) return false;
  if (state.systemIdentifier !== undefined && announcement.systemIdentifier !== state.systemIdentifier) return false;
  if (utf8Length(peer.pgUrl) > NAME_BYTES_MAX) return false;
  const clash = chainOf(state).some(
    (other) => other.id !== peer.id && other.pgUrl.toLowerCase() === peer.pgUrl.toLowerCase(),
  );
  if (clash) return false;
  const known = state.async.find(({ id }) => id === peer.id);
  return known === undefined || known.incarnation !== announcement.incarnation;
}

/** Streams from here, is nearly caught up, and says which data it has. */
function isReady({ obs, server }: PrimaryScene, peer: PeerEntry): boolean {
  const walsender = walsenderOf(server, peer);
  return (
    electionEntryOf(obs, peer.id)?.announcement?.incarnation !== undefined &&
    walsender?.state === "streaming" &&
    walsender.flush !== undefined &&
    // One whose replay is paused could not take over.
    server.wal.end - (walsender.replay ?? walsender.flush) <= BigInt(obs.policy.syncLagBytesMax) &&
    server.wal.end - walsender.flush <= BigInt(obs.policy.syncLagBytesMax)
  );
}

/**
 * The async that is asked to stream from here; it does so by following `callsFor`. One that does not come within the bound is passed over for the next, and so
 * on in a ring: what keeps it (a link, a replay that is paused) may not be seen from here.
 */
export function asyncToCall(scene: PrimaryScene): PeerEntry | undefined {
  const { obs, state } = scene;
  const compare = compareAsSync(obs.tags);
  const missed = ({ id }: PeerEntry): 0 | 1 => (isMissed(obs, id) ? 1 : 0);
  const callable = state.async
    .filter((peer) => {
      const found = electionEntryOf(obs, peer.id)?.announcement;
      return found?.incarnation !== undefined && found.phase !== "restoring" && found.phase !== "diverged";
    })
    .sort((a, b) => missed(a) - missed(b) || compare(tagsOf(scene, a), tagsOf(scene, b)));
  const passed = Math.floor(waited(scene, "replace") / obs.policy.opsTimeoutMs);
  return callable[passed % callable.length];
}

export function replaceSync(scene: PrimaryScene, reason: string, settings: PostgresSettings): Step {
  const { obs, memory } = scene;
  const because = scene.state.sync ? `the sync ${scene.state.sync.id} ${reason}` : `a sync ${reason}`;
  const candidate = findCandidate(scene);
  const alone = { ...scene, memory: { ...memory, replacing: undefined } };
  if (!candidate) {
    const called = asyncToCall(scene);
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
      // No event tells that a standby has begun to stream.
      ...(called && { lookAgainAfterMs: SOON_MS }),
    };
  }
  const incarnation = electionEntryOf(obs, candidate.id)?.announcement?.incarnation as string;
  const current = memory.replacing;
  // A walsender that goes by a list with a third name gives that one the first place, beside the new one's: the two would release commits without the old sync.
  const listed = requiredNames({ ...scene, memory: { ...memory, replacing: { candidate: addressOf(candidate) } } });
  if (
    !sameNames(scene.server.settings.syncNames, listed) &&
    current?.candidate.id !== candidate.id &&
    !requiredApplied(alone)
  ) {
    const laggard = strayWalsender(alone);
    const late = laggard !== undefined && !current && waited(scene, "stray") >= obs.policy.suspectMs;
    return {
      rule: "S1",
      because,
      settings: { ...settings, syncNames: requiredNames(alone) },
      memory: { replacing: undefined },
      ...(late
        ? { action: { kind: "end-walsender", pid: laggard.pid } }
        : { waitingOn: "commits to wait for the old sync alone, before another candidate is required beside it" }),
      lookAgainAfterMs: SOON_MS,
    };
  }
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
  if (isOutcomeLost(scene)) {
    const because = `the outcome of a write (${sent.what}) on version ${sent.version} is unknown`;
    return fenceStep(scene, because, { settings });
  }
  return {
    rule: sent.rule,
    because: `a write was sent on version ${sent.version}`,
    settings,
    waitingOn: "a newer version of the state to be read",
    lookAgainAfterMs: SOON_MS * 2,
  };
}
