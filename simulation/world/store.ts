// The coordination store: one document with versions, ephemeral election nodes of sessions, a history. Reads may be late, writes may
// land late, answers may be lost.

import type { Ms } from "../../src/base/units.ts";
import type { StoreAction } from "../../src/cluster/decision.ts";
import { generationIn } from "../../src/cluster/codec.ts";
import { checkTransition, type TransitionContext } from "../../src/cluster/invariants.ts";
import type { Announcement } from "../../src/cluster/observation.ts";
import type { ShardState } from "../../src/cluster/state.ts";
import { nextNumber, schedule, tell } from "./agenda.ts";
import { soon } from "./sitter.ts";
import type { SimPeer, SimSession, SimSitter, World } from "./types.ts";

const HOUR_MS: Ms = 3_600_000;

/** The store's answer reaches this peer, and its requests the store. */
export function reachesStore(world: World, peer: SimPeer): boolean {
  return world.store.up && peer.hostUp && !peer.cutOff;
}

// --- sessions

/** The sitter finds the store (again): resumes its session where that is still alive, else begins one. */
export function connectSession(world: World, peer: SimPeer, sitter: SimSitter): void {
  if (peer.sitter !== sitter || peer.paused || !reachesStore(world, peer)) return;
  if (peer.session?.alive) peer.session.contact++;
  if (sitter.connected && peer.session?.alive) return;
  if (!peer.session?.alive) {
    const session: SimSession = { number: nextNumber(world), peer: peer.name, alive: true, contact: 0 };
    world.store.sessions.push(session);
    peer.session = session;
    sitter.announced = undefined;
  }
  sitter.connected = true;
  sitter.connectionSince = world.now;
  readSoon(world, peer);
}

/** Nothing of this session comes through any more: it ends after its time, unless contact is made before. */
export function loseContact(world: World, peer: SimPeer): void {
  const session = peer.session;
  if (!session?.alive) return;
  const contact = ++session.contact;
  const expire = (): void => {
    if (session.contact !== contact || !session.alive) return;
    if (!world.store.up) return; // a store that is down ends no session; startStore counts anew
    expireSession(world, session);
  };
  schedule(world, world.sessionTimeoutMs, `session of ${peer.name} ends`, expire);
}

export function expireSession(world: World, session: SimSession): void {
  session.alive = false;
  const before = world.store.election.length;
  world.store.election = world.store.election.filter((entry) => entry.session !== session.number);
  if (world.store.election.length < before) {
    world.store.electionVersion++;
    tell(world, `the store: the session of ${session.peer} has ended`);
    notify(world);
  }
}

/** The sitter notices that it has no connection: at once where the connection is reset, else by silence. */
export function noticeCutOff(world: World, peer: SimPeer, delay: Ms | readonly [Ms, Ms]): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  schedule(world, delay, `${peer.name} notices that the store is out of reach`, () => {
    if (peer.sitter !== sitter || peer.paused || reachesStore(world, peer) || !sitter.connected) return;
    sitter.connected = false;
    sitter.connectionSince = world.now;
    if (sitter.lastWrite?.outcome === "sent") sitter.lastWrite = { ...sitter.lastWrite, outcome: "unknown" };
    soon(world, peer);
  });
}

// --- reading

/** Something has changed: whoever watches reads. */
export function notify(world: World): void {
  for (const peer of world.peers) readSoon(world, peer);
}

/** A read begins now, sees the store somewhat later, and arrives later still. */
export function readSoon(world: World, peer: SimPeer): void {
  const sitter = peer.sitter;
  if (!sitter || !sitter.connected) return;
  const begun = world.now;
  schedule(world, [1, 12], `${peer.name} reads the store`, () => {
    if (!reachesStore(world, peer) || peer.paused) return;
    const { store } = world;
    const view: SimSitter["view"] =
      store.state === undefined
        ? { kind: "absent" }
        : { kind: "document", state: store.state, version: store.version, readAt: begun };
    const election = newestNodes(world);
    const { electionVersion } = store;
    const takeovers = store.history.filter(
      ({ state, at }) => at > world.now - HOUR_MS && state.rule === "T1" && state.provisional,
    ).length;
    const lag = peer.faults.lagMs;
    schedule(world, [1 + lag, 10 + lag], `${peer.name} has read the store`, () => {
      if (peer.sitter !== sitter || peer.paused || !sitter.connected) return;
      const older = sitter.view.kind === "document" && view.kind === "document" && view.readAt < sitter.view.readAt;
      if (older) return;
      const changed =
        view.kind !== sitter.view.kind ||
        (view.kind === "document" && sitter.view.kind === "document" && view.version !== sitter.view.version) ||
        electionVersion !== sitter.electionVersion;
      sitter.view = view;
      sitter.election = election;
      sitter.electionVersion = electionVersion;
      sitter.takeoversLastHour = takeovers;
      if (view.kind === "document") rememberDocument(peer, view);
      if (changed) soon(world, peer);
    });
  });
}

/** The durable copy of the last document seen (B1). */
function rememberDocument(peer: SimPeer, view: { state: ShardState; version: number }): void {
  const mark = peer.data?.mark;
  if (!peer.data || !mark || mark.lastDocument?.version === view.version) return;
  if (generationIn(mark.lastDocument?.json ?? "") > view.state.generation) return;
  const json = plain(view.state);
  const founding = mark.founding && !json.includes(mark.incarnation);
  peer.data.mark = { ...mark, founding, lastDocument: { version: view.version, json } };
}

function newestNodes(world: World): SimSitter["election"] {
  const nodes = [...world.store.election].sort((a, b) => a.sequence - b.sequence);
  return nodes.filter(
    (node) => !nodes.some((other) => other.peer.id === node.peer.id && other.sequence > node.sequence),
  );
}

/** For comparing plain data that may hold positions. */
export function plain(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) => (typeof v === "bigint" ? `${v}n` : v)) ?? "undefined";
}

/** Whether plain data are equal. */
export function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const [left, right] = [Object.entries(a), Object.entries(b)];
  return left.length === right.length && left.every(([key, value]) => same(value, (b as Record<string, unknown>)[key]));
}

// --- writing

/** The election node of this peer's session says this from now on; undefined: it is gone. Whether that was possible. */
export function setAnnouncement(world: World, peer: SimPeer, announcement: Announcement | undefined): boolean {
  const { store } = world;
  const session = peer.session;
  if (!reachesStore(world, peer) || !session?.alive) return false;
  const own = store.election.find((entry) => entry.session === session.number);
  // nodes that a former session of this peer left behind go, once ours is there
  store.election = store.election.filter((entry) => entry.peer.id !== peer.address.id);
  if (announcement) {
    const sequence = own?.sequence ?? store.sequence++;
    store.election.push({ peer: peer.address, sequence, announcement, session: session.number });
  }
  store.electionVersion++;
  notify(world);
  return true;
}

export function sendWrite(world: World, peer: SimPeer, action: StoreAction): void {
  const sitter = peer.sitter;
  if (!sitter) return;
  const { token } = action;
  const sent = { token, outcome: "sent" as const };
  sitter.lastWrite = sent;
  const answer = (outcome: "yes" | "no" | "unknown"): void => {
    if (
      peer.sitter !== sitter ||
      peer.paused ||
      sitter.lastWrite?.token !== token ||
      sitter.lastWrite.outcome !== "sent"
    )
      return;
    sitter.lastWrite = { ...sent, outcome };
    readSoon(world, peer);
    soon(world, peer);
  };
  if (!reachesStore(world, peer))
    return schedule(world, [500, 2_000], `${peer.name}: no answer from the store`, () => answer("unknown"));
  if (peer.faults.refuseWrite) {
    peer.faults.refuseWrite = false;
    sitter.lastWrite = { ...sent, outcome: "no" };
    return;
  }
  const late = peer.faults.landLateMs;
  const lost = peer.faults.loseAnswer || late !== undefined;
  peer.faults.landLateMs = undefined;
  peer.faults.loseAnswer = false;
  const delay = (late ?? 0) + peer.faults.delayWritesMs;
  if (lost) schedule(world, [100, 500], `${peer.name}: the answer of the store is lost`, () => answer("unknown"));
  schedule(world, [2 + delay, 15 + delay], `the write of ${peer.name} arrives`, () => {
    if (!world.store.up)
      return schedule(world, [500, 2_000], `${peer.name}: no answer from the store`, () => answer("unknown"));
    const outcome = land(world, { by: peer.name, id: peer.address.id, action, late: late !== undefined });
    if (!lost)
      schedule(world, [1, 10], `${peer.name} learns what became of its write`, () =>
        answer(reachesStore(world, peer) ? outcome : "unknown"),
      );
  });
}

function land(world: World, write: { by: string; id: string; action: StoreAction; late: boolean }): "yes" | "no" {
  const { store } = world;
  const { action } = write;
  const current = store.state === undefined ? undefined : store.version;
  if (action.version !== current) {
    tell(world, `the store: ${write.by}'s write on version ${action.version ?? "none"} comes too late`);
    return "no";
  }
  commitState(world, action.state, { by: write.id, name: write.by, kind: "agent" });
  if (write.late) tell(world, `the store: ${write.by}'s write has landed late`);
  return "yes";
}

/** A write that is let through: the document, its history, and the check of the transition. */
export function commitState(
  world: World,
  state: ShardState,
  by: { by: string; name: string; kind: TransitionContext["kind"] },
): void {
  const { store } = world;
  const version = store.version + 1;
  for (const { rule, message } of checkTransition(store.state, state, { kind: by.kind }))
    if (rule !== "sync") world.violations.push(`state (${rule}): ${message}, written by ${by.name}`);
  store.state = { ...state, written: { by: by.by, version } };
  store.version = version;
  store.history.push({ state: store.state, at: world.now });
  tell(world, `the store: version ${version} by ${by.name}: ${summary(world, state)}`);
  world.dirty = true;
  notify(world);
}

export function summary(world: World, state: ShardState): string {
  const name = (id: string): string => world.peers.find(({ address }) => address.id === id)?.name ?? id;
  const list = (peers: ShardState["async"]): string => peers.map(({ id }) => name(id)).join(" ") || "-";
  const flags = [
    state.provisional ? "provisional" : "",
    state.freeze ? "frozen" : "",
    state.oneNodeWriteMode ? "one-node-write" : "",
    state.promote ? `promote ${name(state.promote.id)}` : "",
  ].filter((flag) => flag !== "");
  return `generation ${state.generation}, primary ${name(state.primary.id)}, sync ${state.sync ? name(state.sync.id) : "-"}, async ${list(state.async)}, deposed ${list(state.deposed)}${flags.length > 0 ? ` (${flags.join(", ")})` : ""}`;
}
