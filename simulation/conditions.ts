// What a script can expect, or run until: questions about the simulated world, in words.

import type { PeerEntry, ShardState } from "../src/cluster/state.ts";
import { notSettled, peerById } from "./checkers.ts";
import { withNames } from "./world/sitter.ts";
import type { SimPeer, World } from "./world/types.ts";

/** A mistake in a script: not a verdict on the shard. */
export class ScriptMistake extends Error {}

interface Condition {
  readonly usage: string;
  readonly holds: (world: World, words: readonly string[]) => boolean;
}

/** By its name, or by its role in the newest state: `primary`, `sync`, `async`, `deposed` (the first peer where nobody has that role). */
export function peerNamed(world: World, name: string | undefined): SimPeer {
  const peer = world.peers.find((peer) => peer.name === name) ?? peerInRole(world, name);
  if (!peer) throw new ScriptMistake(`there is no peer ${name ?? "(none named)"}`);
  return peer;
}

function peerInRole(world: World, role: string | undefined): SimPeer | undefined {
  const { state } = world.store;
  if (role === undefined || !["primary", "sync", "async", "deposed"].includes(role)) return undefined;
  const entry =
    role === "primary"
      ? state?.primary
      : role === "sync"
        ? state?.sync
        : role === "async"
          ? state?.async[0]
          : state?.deposed.at(-1);
  return (entry && peerById(world, entry.id)) ?? world.peers[0];
}

function decisionOf(world: World, name: string | undefined): NonNullable<SimPeer["sitter"]>["lastDecision"] {
  return peerNamed(world, name).sitter?.lastDecision;
}

function namesOf(world: World, entries: readonly (PeerEntry | null)[]): string {
  return entries.map((entry) => (entry ? (peerById(world, entry.id)?.name ?? "?") : "none")).join(" ") || "none";
}

function inState(question: (state: ShardState, words: readonly string[], world: World) => boolean): Condition["holds"] {
  return (world, words) => world.store.state !== undefined && question(world.store.state, words, world);
}

function saysThat(world: World, said: string | undefined, words: readonly string[]): boolean {
  return said !== undefined && withNames(world, said).toLowerCase().includes(words.join(" ").toLowerCase());
}

const entries = (pick: (state: ShardState) => readonly (PeerEntry | null)[]): Condition["holds"] =>
  inState((state, words, world) => namesOf(world, pick(state)) === words.join(" "));

export const CONDITIONS: Readonly<Record<string, Condition>> = {
  primary: { usage: "primary A", holds: entries((state) => [state.primary]) },
  sync: { usage: "sync A|none", holds: entries((state) => [state.sync]) },
  async: { usage: "async A B …|none: exactly these, in order", holds: entries((state) => state.async) },
  deposed: { usage: "deposed A …|none", holds: entries((state) => state.deposed) },
  generation: { usage: "generation N", holds: inState((state, [n]) => state.generation === Number(n)) },
  timeline: { usage: "timeline N", holds: inState((state, [n]) => state.timeline === Number(n)) },
  provisional: { usage: "provisional", holds: inState((state) => state.provisional) },
  frozen: { usage: "frozen", holds: inState((state) => state.freeze !== undefined) },
  promote: {
    usage: "promote: a request is pending",
    holds: inState((state) => state.promote !== undefined || state.malformedPromote !== undefined),
  },
  "one-node-write": { usage: "one-node-write", holds: inState((state) => state.oneNodeWriteMode) },
  reason: {
    usage: "reason TEXT: of the newest version",
    holds: inState((state, words, world) => saysThat(world, state.reason, words)),
  },
  written: {
    usage: "written RULE: some version was written by that rule",
    holds: (world, [rule]) => world.store.history.some(({ state }) => state.rule === rule),
  },
  "no-state": { usage: "no-state", holds: (world) => world.store.state === undefined },
  settled: {
    usage: "settled: clients can commit, and everybody is back",
    holds: (world) => notSettled(world).length === 0,
  },
  open: { usage: "open A", holds: (world, [a]) => isOpen(peerNamed(world, a)) },
  server: {
    usage: "server A down|starting|primary|standby",
    holds: (world, [a, kind]) => (peerNamed(world, a).server?.kind ?? "down") === kind,
  },
  job: {
    usage: "job A KIND|none",
    holds: (world, [a, kind]) => (peerNamed(world, a).sitter?.job?.kind ?? "none") === kind,
  },
  follows: { usage: "follows A B", holds: (world, [a, b]) => receives(peerNamed(world, a), peerNamed(world, b)) },
  promoting: {
    usage: "promoting A: standby.signal is gone, the timeline has not begun",
    holds: (world, [a]) => peerNamed(world, a).server?.promoting === true,
  },
  sessions: {
    usage: "sessions A: clients are connected",
    holds: (world, [a]) => (peerNamed(world, a).server?.sessions ?? 0) > 0,
  },
  present: { usage: "present A: in the election", holds: (world, [a]) => isPresent(world, peerNamed(world, a)) },
  data: { usage: "data A none|present|incomplete", holds: (world, [a, kind]) => dataOf(peerNamed(world, a)) === kind },
  forks: { usage: "forks A N", holds: (world, [a, n]) => peerNamed(world, a).forks.length === Number(n) },
  has: {
    usage: "has A x: in its WAL",
    holds: (world, [a, x]) => peerNamed(world, a).data?.wal.values.has(x ?? "") === true,
  },
  acknowledged: {
    usage: "acknowledged x y …",
    holds: (world, words) => words.every((x) => world.clients.acknowledged.has(x)),
  },
  seen: { usage: "seen x", holds: (world, [x]) => world.clients.seen.has(x ?? "") },
  rule: { usage: "rule A RULE", holds: (world, [a, rule]) => decisionOf(world, a)?.rule === rule },
  does: {
    usage: "does A ACTION: as just decided",
    holds: (world, [a, kind]) => decisionOf(world, a)?.action?.kind === kind,
  },
  says: {
    usage: "says A TEXT",
    holds: (world, [a, ...words]) => saysThat(world, decisionOf(world, a)?.because, words),
  },
  waiting: {
    usage: "waiting A TEXT",
    holds: (world, [a, ...words]) => saysThat(world, decisionOf(world, a)?.waitingOn, words),
  },
  operator: {
    usage: "operator A TEXT",
    holds: (world, [a, ...words]) => saysThat(world, decisionOf(world, a)?.operator, words),
  },
};

function isOpen(peer: SimPeer): boolean {
  return peer.server?.kind === "primary" && peer.server.settings.gate === "open";
}

function receives(peer: SimPeer, from: SimPeer): boolean {
  const receiver = peer.server?.receiver;
  return receiver?.kind === "streaming" && receiver.upstream === from.name;
}

function isPresent(world: World, peer: SimPeer): boolean {
  return world.store.election.some((entry) => entry.peer.id === peer.address.id);
}

function dataOf({ data }: SimPeer): string {
  if (!data) return "none";
  return data.cutShort === undefined ? "present" : "incomplete";
}

/** `not` before a condition turns it around. */
export function holds(world: World, words: readonly string[]): boolean {
  const [name, ...rest] = words;
  if (name === "not") return !holds(world, rest);
  const condition = CONDITIONS[name ?? ""];
  if (!condition)
    throw new ScriptMistake(`nothing can be expected of "${name ?? ""}"; known: ${Object.keys(CONDITIONS).join(" ")}`);
  return condition.holds(world, rest);
}
