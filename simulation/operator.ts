// What an operator does to the simulated shard: the documents that manatee-adm writes.

import type { PromoteRequest, ShardState } from "../src/cluster/state.ts";
import { chainOf, entryOf, membersOf } from "../src/cluster/state.ts";
import { forgive } from "./world/commits.ts";
import { EPOCH_MS } from "./world/observe.ts";
import { commitState } from "./world/store.ts";
import type { SimPeer, World } from "./world/types.ts";
import { walEnd } from "./world/wal.ts";

/** What the original's tool gives a request, too. */
const PROMOTE_EXPIRES_MS = 30_000;

/** Whether there was a document to change. */
function change(
  world: World,
  rule: string,
  reason: string,
  changed: (state: ShardState) => Partial<ShardState>,
): boolean {
  const { state } = world.store;
  if (!state || !world.store.up) return false;
  commitState(
    world,
    { ...state, ...changed(state), rule, reason },
    { by: "manatee-adm", name: "an operator", kind: "operator" },
  );
  return true;
}

export function freeze(world: World, frozen: boolean): boolean {
  const date = new Date(EPOCH_MS + world.now).toISOString();
  return change(world, "F1", frozen ? "frozen by an operator" : "unfrozen by an operator", () => ({
    freeze: frozen ? { date, reason: "by an operator" } : undefined,
  }));
}

export type PromoteFlaw = "expired" | "wrong-generation" | "malformed";

export function promote(world: World, peer: SimPeer, flaw: PromoteFlaw | undefined): boolean {
  return change(world, "T3", `an operator asks for ${peer.name}`, (state) => {
    if (flaw === "malformed") return { malformedPromote: '{"id":7}' };
    const asyncIndex = state.async.findIndex(({ id }) => id === peer.address.id);
    const request: PromoteRequest = {
      id: peer.address.id,
      role: asyncIndex >= 0 ? "async" : "sync",
      asyncIndex: asyncIndex >= 0 ? asyncIndex : undefined,
      generation: state.generation + (flaw === "wrong-generation" ? 1 : 0),
      expireTime: new Date(EPOCH_MS + world.now + (flaw === "expired" ? -1_000 : PROMOTE_EXPIRES_MS)).toISOString(),
    };
    return { promote: request };
  });
}

export function clearPromote(world: World): boolean {
  return change(world, "T3", "an operator takes the request back", () => ({
    promote: undefined,
    malformedPromote: undefined,
  }));
}

export function reap(world: World, peer: SimPeer): boolean {
  return change(world, "A2", `an operator reaps ${peer.name}`, (state) => ({
    deposed: state.deposed.filter(({ id }) => id !== peer.address.id),
  }));
}

export function setOneNodeWriteMode(world: World, on: boolean): boolean {
  return change(world, "O1", `an operator sets one-node-write mode ${on ? "on" : "off"}`, (state) => ({
    oneNodeWriteMode: on,
    freeze: on ? state.freeze : undefined,
  }));
}

/** O2: this peer goes on as primary with what it has. From here on the checkers forgive what it lacks. */
export function takeOverAcceptingLoss(world: World, peer: SimPeer): boolean {
  const { state } = world.store;
  const { data } = peer;
  if (!state || !world.store.up || !data?.mark) return false;
  const { incarnation } = data.mark;
  const heir = world.peers.find(
    (other) => other !== peer && other.hostUp && other.data?.mark && state.primary.id !== other.address.id,
  );
  const others = membersOf(state).filter(({ id }) => id !== peer.address.id && id !== heir?.address.id);
  const timeline = state.highestTimeline + 1;
  const next: ShardState = {
    ...state,
    generation: state.generation + 1,
    primary: { ...peer.address, incarnation, extra: entryOf(state, peer.address.id)?.extra ?? {} },
    sync: heir ? { ...heir.address, incarnation: heir.data?.mark?.incarnation, extra: {} } : null,
    async: [],
    deposed: others,
    initWal: walEnd(data.wal),
    initTimeline: data.wal.timeline,
    timeline,
    highestTimeline: timeline,
    provisional: true,
    promote: undefined,
    malformedPromote: undefined,
    oneNodeWriteMode: heir === undefined,
    freeze: heir ? undefined : { date: undefined, reason: "one-node-write mode" },
    rule: "O2",
    reason: "an operator accepts the loss",
  };
  forgiveLost(world, peer);
  commitState(world, next, { by: "manatee-adm", name: "an operator", kind: "forced" });
  return true;
}

/** B1's way out: the last document that this peer saw is written again, above all generations known. */
export function restoreState(world: World, peer: SimPeer): boolean {
  const seen = world.store.history.filter(({ state }) => chainOf(state).some(({ id }) => id === peer.address.id));
  const newest = Math.max(...seen.map(({ state }) => state.generation));
  const last = seen.findLast(({ state }) => state.generation === newest)?.state;
  const generation = Math.max(...world.store.history.map(({ state }) => state.generation)) + 1;
  const present = world.store.state;
  if ((present && present.generation + 1 >= generation) || !last) return false;
  world.store.state = undefined;
  commitState(
    world,
    { ...last, generation, rule: "B1", reason: "an operator restores the document" },
    { by: "manatee-adm", name: "an operator", kind: "restore" },
  );
  return true;
}

function forgiveLost(world: World, peer: SimPeer): void {
  const promised = Array.from(world.clients.promised);
  for (const value of promised) if (!peer.data?.wal.values.has(value)) forgive(world, value);
  world.clients.acceptedLossFor = peer.name;
}
