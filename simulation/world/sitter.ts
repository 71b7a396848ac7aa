// The simulated sitter: observes, lets `decide` decide, and does exactly what it says, in its order: announce, settings, action.
// It never decides. Between any two of its steps the world goes on, and faults may strike.

import type { Decision, PostgresAction } from "../../src/cluster/decision.ts";
import { NEW_MEMORY } from "../../src/cluster/decision.ts";
import type { PeerEvidence, PostgresObservation } from "../../src/cluster/observation.ts";
import { chance } from "../random.ts";
import { nextNumber, schedule, tell } from "./agenda.ts";
import { endSessions, reload, writeRecord } from "./commits.ts";
import { canReach, dropReceiver, endSender } from "./connections.ts";
import { newMark, runCopy, runInitdb, runKeepFork, runRewind, runRollBack } from "./jobs.ts";
import { observe, observePostgres, SILENCE_LIMIT_MS } from "./observe.ts";
import { fail, promoteServer, startServer, stopServer, succeed } from "./postgres.ts";
import { connectSession, loseContact, readSoon, same, sendWrite, setAnnouncement } from "./store.ts";
import type { SimPeer, SimSitter, World } from "./types.ts";

/** Some beats of a stream at a time. */
const EVIDENCE_EVERY: readonly [number, number] = [150, 250];
/** What is new goes over the stream at once; so does the end of a process, which closes its connections. */
const PUSH_MS: readonly [number, number] = [1, 15];
const CONFIRM_EVERY_MS = 500;

export function startSitter(world: World, peer: SimPeer): void {
  if (peer.sitter || !peer.hostUp) return;
  const sitter: SimSitter = {
    number: nextNumber(world),
    memory: NEW_MEMORY,
    view: { kind: "unread" },
    election: [],
    electionVersion: -1,
    takeoversLastHour: 0,
    announced: undefined,
    connected: false,
    connectionSince: world.now,
    lastWrite: undefined,
    job: undefined,
    failure: undefined,
    evidence: new Map(),
    busy: false,
    again: false,
    lookAt: undefined,
    lastDecision: undefined,
    told: "",
    pushed: "",
    rebuildRequested: undefined,
  };
  peer.sitter = sitter;
  // a server that ran before this sitter: whether it exited meanwhile nobody saw
  if (!peer.server) peer.stopped = { since: world.now, how: "not-started" };
  schedule(world, [5, 60], `${peer.name} connects to the store`, () => connectSession(world, peer, sitter));
  pollEvidence(world, peer, sitter);
  soon(world, peer);
}

/** The sitter's process ends; its server stays, the work of its driver does not. */
export function endSitter(world: World, peer: SimPeer): void {
  if (!peer.sitter) return;
  peer.sitter = undefined;
  askedByAll(world, peer);
  peer.paused = false;
  loseContact(world, peer);
  peer.session = undefined;
}

/** "Look again." */
export function soon(world: World, peer: SimPeer): void {
  if (peer.sitter?.busy) peer.sitter.again = true;
  lookWithin(world, peer, [1, 10]);
}

function lookWithin(world: World, peer: SimPeer, delay: number | readonly [number, number]): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  const at = world.now + (typeof delay === "number" ? delay : delay[1]);
  if (sitter.lookAt !== undefined && sitter.lookAt <= at) return;
  sitter.lookAt = at;
  schedule(world, delay, `${peer.name} looks`, () => {
    if (peer.sitter !== sitter || sitter.lookAt !== at) return;
    if (sitter.busy || peer.paused) return; // looks when it is done, or goes on
    sitter.lookAt = undefined;
    look(world, peer, sitter);
  });
}

function look(world: World, peer: SimPeer, sitter: SimSitter): void {
  sitter.busy = true;
  if (sitter.view.kind !== "document" || world.now - sitter.view.readAt > CONFIRM_EVERY_MS) readSoon(world, peer);
  const postgres = observePostgres(world, peer, sitter);
  // what was seen of PostgreSQL is some moments old when it is decided on
  continueAfter(world, { peer, sitter, delay: [1, 15], what: "decides" }, () =>
    decideNow(world, peer, sitter, postgres),
  );
}

interface Continuation {
  readonly peer: SimPeer;
  readonly sitter: SimSitter;
  readonly delay: number | readonly [number, number];
  readonly what: string;
}

function continueAfter(world: World, { peer, sitter, delay, what }: Continuation, then: () => void): void {
  schedule(world, delay, `${peer.name} ${what}`, () => {
    if (peer.sitter !== sitter) return;
    if (peer.paused) return continueAfter(world, { peer, sitter, delay: 100, what }, then);
    then();
  });
}

function decideNow(world: World, peer: SimPeer, sitter: SimSitter, postgres: PostgresObservation): void {
  const decision = world.decide(observe(world, peer, sitter, postgres), sitter.memory);
  sitter.memory = decision.memory;
  sitter.lastDecision = decision;
  tellDecision(world, peer, sitter, decision);
  const pushed = `${isHealthy(peer)} ${decision.announce?.abdicates}`;
  if (pushed !== sitter.pushed) askedByAll(world, peer);
  sitter.pushed = pushed;
  if (decision.cancelJob) sitter.job = undefined;
  const done = (): void => {
    sitter.busy = false;
    sitter.lookAt = undefined;
    if (sitter.again) soon(world, peer);
    else lookWithin(world, peer, Math.max(1, decision.lookAgainAfterMs));
    sitter.again = false;
  };
  announce(world, { peer, sitter, decision }, (announced) => {
    if (!announced) return done();
    applySettings(world, { peer, sitter, decision }, (applied) => {
      const action = decision.action;
      if (!applied && action?.kind === "write") sitter.lastWrite = { token: action.token, outcome: "no" };
      if (!applied || !action) return done();
      continueAfter(world, { peer, sitter, delay: [1, 8], what: action.kind }, () => {
        world.coverage.set(`do ${action.kind}`, (world.coverage.get(`do ${action.kind}`) ?? 0) + 1);
        if (action.kind === "write") sendWrite(world, peer, action);
        else perform(world, peer, action);
        done();
        soon(world, peer);
      });
    });
  });
}

interface Acting {
  readonly peer: SimPeer;
  readonly sitter: SimSitter;
  readonly decision: Decision;
}

function announce(world: World, { peer, sitter, decision }: Acting, then: (done: boolean) => void): void {
  if (!sitter.connected || same(decision.announce, sitter.announced)) return then(true);
  // it is on its way first; what follows does not always wait until it has arrived
  const waits = chance(world.random, 0.5);
  continueAfter(world, { peer, sitter, delay: [2, 15], what: "announces" }, () => {
    const done = setAnnouncement(world, peer, decision.announce);
    if (!done)
      return continueAfter(world, { peer, sitter, delay: 300, what: "can't announce" }, () => waits && then(false));
    continueAfter(world, { peer, sitter, delay: [1, 10], what: "has announced" }, () => {
      sitter.announced = decision.announce;
      if (waits) then(true);
      else soon(world, peer);
    });
  });
  if (!waits) then(true);
}

function applySettings(world: World, { peer, sitter, decision }: Acting, then: (done: boolean) => void): void {
  const settings = decision.settings;
  const server = peer.server;
  if (!settings) return then(true);
  if (!server || server.kind === "starting" || server.frozen) return then(false);
  if (same(server.settings, settings)) return then(true);
  continueAfter(world, { peer, sitter, delay: [5, 40], what: "reloads" }, () => {
    if (peer.server !== server || server.frozen) return then(false);
    reload(world, peer, settings);
    if (peer.faults.failSettings) {
      peer.faults.failSettings = false;
      return then(false);
    }
    continueAfter(world, { peer, sitter, delay: [1, 20], what: "checks its settings" }, () =>
      then(peer.server === server),
    );
  });
}

/** Does one action on PostgreSQL, or begins it. */
function perform(world: World, peer: SimPeer, action: PostgresAction): void {
  const { server, data, sitter } = peer;
  if (sitter?.job && !(action.kind === "stop" && action.mode === "immediate"))
    return fail(world, peer, { action: action.kind, code: "PG_BUSY", message: `${sitter.job.kind} is under way` });
  switch (action.kind) {
    case "initdb":
      return runInitdb(world, peer, action.incarnation);
    case "start":
      return startServer(world, peer, action);
    case "stop":
      return stopServer(world, peer, action.mode);
    case "promote":
      return promoteServer(world, peer, action.timeline);
    case "keep-fork":
      return runKeepFork(world, peer, action.name);
    case "roll-back":
      return runRollBack(world, peer, action.from);
    case "rewind":
      return runRewind(world, peer, action.from);
    case "copy":
      return runCopy(world, peer, action);
    case "adopt-data":
      if (data) data.mark = { ...newMark(action.incarnation, true), adopted: true };
      return succeed(peer, action.kind);
    case "mark-claim":
      if (data?.mark)
        data.mark = { ...data.mark, claim: action.version === undefined ? undefined : { version: action.version } };
      return;
    case "renew-incarnation":
      if (data?.mark)
        data.mark = {
          ...data.mark,
          incarnation: action.incarnation,
          ...(action.leaving && { leaving: action.leaving }),
          source: undefined,
          founding: false,
        };
      world.dirty = true;
      return;
    default:
      return performOnServer(world, peer, action, server);
  }
}

type OnServer = Extract<
  PostgresAction,
  { kind: "write-marker" | "end-walsender" | "end-receiver" | "end-clients" | "checkpoint" }
>;

function performOnServer(world: World, peer: SimPeer, action: OnServer, server: SimPeer["server"]): void {
  if (!server || server.kind === "starting" || server.frozen || !peer.data)
    return fail(world, peer, { action: action.kind, code: "PG_NOT_RUNNING", message: "there is no server" });
  switch (action.kind) {
    case "write-marker": {
      const { timeline } = peer.data.wal;
      server.marker = {
        token: action.token,
        lsn: writeRecord(world, peer, { kind: "marker", timeline, value: undefined }),
      };
      return;
    }
    case "end-walsender": {
      const sender = server.senders.find(({ pid }) => pid === action.pid);
      if (sender) endSender(world, peer, server, sender);
      return;
    }
    case "end-receiver":
      if (server.receiver?.pid === action.pid) dropReceiver(world, peer, server, server.receiver);
      return;
    case "end-clients":
      return endSessions(server);
    case "checkpoint":
      if (server.kind === "primary")
        writeRecord(world, peer, { kind: "checkpoint", timeline: peer.data.wal.timeline, value: undefined });
      return;
    default:
      return action satisfies never;
  }
}

// --- evidence about others (D2)

function pollEvidence(world: World, peer: SimPeer, sitter: SimSitter): void {
  schedule(world, EVIDENCE_EVERY, `${peer.name} asks the others`, () => {
    if (peer.sitter !== sitter) return;
    if (!peer.paused) {
      for (const other of world.peers) if (other !== peer) ask(world, peer, sitter, other);
    }
    pollEvidence(world, peer, sitter);
  });
}

/** The others learn how this peer is, where anything gets through. */
function askedByAll(world: World, peer: SimPeer): void {
  schedule(world, PUSH_MS, `the others hear from ${peer.name}`, () => {
    for (const other of world.peers)
      if (other !== peer && other.sitter && !other.paused) ask(world, other, other.sitter, peer);
  });
}

function ask(world: World, peer: SimPeer, sitter: SimSitter, other: SimPeer): void {
  const before = sitter.evidence.get(other.name);
  const reachable = canReach(world, peer, other);
  const sitterKind: PeerEvidence["sitter"]["kind"] =
    !reachable || other.paused ? "silent" : other.sitter ? "answers" : "refused";
  const portKind: PeerEvidence["postgresPort"]["kind"] =
    !reachable || other.server?.frozen ? "silent" : other.server ? "open" : "refused";
  const since = <K extends string>(was: { kind: K; since: number } | undefined, kind: K): { kind: K; since: number } =>
    was?.kind === kind ? was : { kind, since: world.now };
  const alsoSilentFor = world.peers
    .filter(
      (third) => third !== peer && third !== other && third.sitter && !third.paused && canReach(world, peer, third),
    )
    .filter((third) => isSilentFor(world, third, other))
    .map(({ name }) => name);
  const next = {
    sitter: since(before?.sitter, sitterKind),
    postgresPort: since(before?.postgresPort, portKind),
    postgresHealthy: sitterKind === "answers" ? isHealthy(other) : before?.postgresHealthy,
    abdicates: sitterKind === "answers" ? other.sitter?.lastDecision?.announce?.abdicates : undefined,
    alsoSilentFor,
  };
  sitter.evidence.set(other.name, next);
  if (
    before?.sitter.kind !== sitterKind ||
    before.postgresPort.kind !== portKind ||
    before.postgresHealthy !== next.postgresHealthy ||
    before.abdicates !== next.abdicates ||
    !same(before.alsoSilentFor, alsoSilentFor)
  )
    soon(world, peer);
}

/** As its own sitter would say (src/peers/peer-watch.ts). */
function isSilentFor(world: World, witness: SimPeer, other: SimPeer): boolean {
  const seen = witness.sitter?.evidence.get(other.name);
  return (
    seen?.sitter.kind === "silent" &&
    seen.postgresPort.kind === "silent" &&
    world.now - seen.sitter.since >= SILENCE_LIMIT_MS &&
    world.now - seen.postgresPort.since >= SILENCE_LIMIT_MS / 2
  );
}

function isHealthy(peer: SimPeer): boolean {
  return peer.server !== undefined && !peer.server.frozen && peer.server.kind !== "starting";
}

// --- the story

function tellDecision(world: World, peer: SimPeer, sitter: SimSitter, decision: Decision): void {
  world.coverage.set(decision.rule, (world.coverage.get(decision.rule) ?? 0) + 1);
  const text = describeDecision(world, decision);
  if (text === sitter.told) return;
  sitter.told = text;
  tell(world, `${peer.name}: ${text}`);
}

/** `T1 the primary A refuses on both its ports → write`, with names for identities and without what changes by itself. */
export function describeDecision(world: World, decision: Decision): string {
  const parts = [`${decision.rule}  ${decision.because}`];
  if (decision.waitingOn !== undefined) parts.push(`  waiting on: ${decision.waitingOn}`);
  if (decision.operator !== undefined) parts.push(`  operator: ${decision.operator}`);
  if (decision.action !== undefined) parts.push(`  do: ${describeAction(decision.action)}`);
  return withNames(world, parts.join("\n"));
}

function describeAction(action: NonNullable<Decision["action"]>): string {
  switch (action.kind) {
    case "write":
      return `write generation ${action.state.generation} on version ${action.version ?? "none"}`;
    case "start":
      return `start as ${action.as}`;
    case "stop":
      return `stop ${action.mode}`;
    case "promote":
      return `promote to timeline ${action.timeline}`;
    case "mark-claim":
      return action.version === undefined
        ? "take the mark of the claim away"
        : `mark the claim on version ${action.version}`;
    case "roll-back":
    case "rewind":
    case "copy":
      return `${action.kind} from ${action.from.id}`;
    default:
      return action.kind;
  }
}

/** Replaces identities and random names: `10.0.0.1:5432:12345` becomes `A`, `1204 ms` becomes `… ms`. */
export function withNames(world: World, text: string): string {
  let named = text;
  for (const { address, name } of world.peers)
    named = named.replaceAll(address.id, name).replaceAll(address.pgUrl, name);
  return named.replaceAll(/\b\d+ (ms|s)\b/g, "… $1").replaceAll(/\b[0-9a-f]{8}\b/g, "…");
}

/** A paused sitter goes on: whatever it timed before starts again. */
export function wakeSitter(world: World, peer: SimPeer): void {
  const sitter = peer.sitter;
  if (!sitter || !peer.paused) return;
  peer.paused = false;
  for (const evidence of sitter.evidence.values()) {
    evidence.sitter = { ...evidence.sitter, since: world.now };
    evidence.postgresPort = { ...evidence.postgresPort, since: world.now };
  }
  const session = peer.session;
  if (session && !session.alive) sitter.connected = false;
  schedule(world, [1, 50], `${peer.name} hears from the store`, () => connectSession(world, peer, sitter));
  sitter.lookAt = undefined;
  if (!sitter.busy) soon(world, peer);
}
