// The words of scenario scripts and of manatee-sim: one command a line, each does one thing to the simulated world.

import { CONDITIONS, holds, peerNamed, ScriptMistake } from "./conditions.ts";
import { checkWorld, notSettled, silentPeers } from "./checkers.ts";
import * as faults from "./faults.ts";
import * as operator from "./operator.ts";
import { showShard } from "./show.ts";
import { stepWorld, tell } from "./world/agenda.ts";
import { writeCommit } from "./world/commits.ts";
import { takeSnapshot } from "./world/jobs.ts";
import { summary } from "./world/store.ts";
import { NO_TAGS, type Tags } from "../src/cluster/tags.ts";
import type { SimPeer, World } from "./world/types.ts";
import { addPeer, startWriter } from "./world/world.ts";

/** An expectation or an invariant that did not hold. */
export class ScenarioFailure extends Error {}

export interface Command {
  readonly usage: string;
  readonly help: string;
  /** What it has to say, if anything. */
  readonly run: (world: World, words: readonly string[]) => string | undefined | void;
}

const SETTLE_WITHIN_MS = 90_000;
const UNTIL_WITHIN_MS = 60_000;

/** `500ms`, `5s`, `2m`. */
export function parseDuration(text: string | undefined): number {
  const match = /^(\d+)(ms|s|m)$/.exec(text ?? "");
  if (!match) throw new ScriptMistake(`"${text ?? ""}" is no duration; write 500ms, 5s or 2m`);
  return Number(match[1]) * { ms: 1, s: 1_000, m: 60_000 }[match[2] as "ms" | "s" | "m"];
}

/** One thing happens; then everything must still hold. */
export function stepOnce(world: World): string | undefined {
  const what = stepWorld(world);
  checkWorld(world);
  if (world.violations.length > 0) throw new ScenarioFailure(`violated: ${world.violations.join("; ")}`);
  return what;
}

/** Runs until something holds; false where it did not within the time. */
function runUntil(world: World, withinMs: number, reached: () => boolean): boolean {
  const end = world.now + withinMs;
  while (!reached()) {
    const next = world.agenda[0];
    if (!next || next.at > end) {
      world.now = end;
      return reached();
    }
    stepOnce(world);
  }
  return true;
}

function settle(world: World, words: readonly string[]): void {
  const within = words[0] === undefined ? SETTLE_WITHIN_MS : parseDuration(words[0]);
  // for a moment is not enough: whatever is still on its way may undo it
  const calmMs = 1_500;
  let since = world.now;
  let version = world.store.version;
  const calm = (): boolean => {
    if (notSettled(world).length > 0 || world.store.version !== version)
      [since, version] = [world.now, world.store.version];
    return world.now - since >= calmMs;
  };
  if (!runUntil(world, within, calm)) throw new ScenarioFailure(`the shard does not settle: ${explainStuck(world)}`);
}

/** Settled, or each peer that is stuck says which of the operator's commands is the way out (I6). */
function settleOrOperator(world: World, words: readonly string[]): void {
  try {
    settle(world, words);
  } catch (error) {
    if (!(error instanceof ScenarioFailure) || world.violations.length > 0) throw error;
    const named = world.peers.some(({ sitter }) => sitter?.lastDecision?.operator !== undefined);
    const silent = silentPeers(world).filter((name) => !isWell(world, name));
    if (!named || silent.length > 0) throw error;
    tell(world, "it is for the operator now");
  }
}

function isWell(world: World, name: string): boolean {
  const state = world.store.state;
  const peer = peerNamed(world, name);
  return (
    state !== undefined && [state.primary, state.sync, ...state.async].some((entry) => entry?.id === peer.address.id)
  );
}

function explainStuck(world: World): string {
  const decisions = world.peers.map(
    ({ name, sitter }) => `\n  ${name}: ${sitter?.told.replaceAll("\n", " | ") ?? "no sitter"}`,
  );
  return `${notSettled(world).join("; ")}${decisions.join("")}`;
}

const onPeer =
  (run: (world: World, peer: SimPeer, rest: readonly string[]) => void): Command["run"] =>
  (world, [name, ...rest]) =>
    run(world, peerNamed(world, name), rest);

const asOperator =
  (run: (world: World, words: readonly string[]) => boolean): Command["run"] =>
  (world, words) =>
    run(world, words) ? undefined : "nothing to change";

function write(world: World, words: readonly string[]): string | undefined {
  const [value, on, name] = words;
  if (value === undefined || (on !== undefined && on !== "on")) throw new ScriptMistake("usage: write x [on A]");
  const peers = name === undefined ? world.peers : [peerNamed(world, name)];
  const done = peers.filter((peer) => writeCommit(world, peer, value));
  if (done.length === 0) return "no server admits this client";
  return undefined;
}

/** The name of the last thing that happened. */
function stepTimes(world: World, times: number): string | undefined {
  let what: string | undefined;
  for (let i = 0; i < times; i++) what = stepOnce(world);
  return what;
}

function setPolicy(world: World, [key, value]: readonly string[]): void {
  if (key === undefined || value === undefined || !(key in world.policy))
    throw new ScriptMistake(`policies: ${Object.keys(world.policy).join(" ")}`);
  const parsed = value === "true" ? true : value === "false" ? false : /^\d+$/.test(value) ? Number(value) : value;
  Object.assign(world.policy, { [key]: parsed });
}

function setTags(peer: SimPeer, words: readonly string[]): void {
  peer.tags = words.reduce<Tags>((tags, word) => {
    const [key, value] = word.split("=");
    if (key === "none") return NO_TAGS;
    if (key === "nofailover" || key === "nosync") return { ...tags, [key]: true };
    if (key === "priority" && /^-?\d+$/.test(value ?? "")) return { ...tags, priority: Number(value) };
    if (key === "zone" && value) return { ...tags, zone: value };
    throw new ScriptMistake("tag A none | nofailover | nosync | priority=N | zone=NAME …");
  }, NO_TAGS);
}

function run(world: World, words: readonly string[]): void {
  if (words[0] !== "until") {
    const end = world.now + parseDuration(words[0]);
    runUntil(world, end - world.now, () => world.now >= end);
    return;
  }
  const within = words.indexOf("within");
  const condition = within < 0 ? words.slice(1) : words.slice(1, within);
  const bound = within < 0 ? UNTIL_WITHIN_MS : parseDuration(words[within + 1]);
  if (!runUntil(world, bound, () => holds(world, condition)))
    throw new ScenarioFailure(`never came: ${condition.join(" ")}; ${explainStuck(world)}`);
}

export const COMMANDS: Readonly<Record<string, Command>> = {
  peers: {
    usage: "peers N",
    help: "N new peers without data, whose sitters start",
    run: (world, [n]) => {
      for (let i = 0; i < Number(n); i++) addPeer(world);
    },
  },
  shard: {
    usage: "shard N",
    help: "the same, one after the other: the chain is A, B, C … in this order",
    run: (world, [n]) => {
      for (let i = 0; i < Number(n); i++) {
        addPeer(world);
        if (i > 0) settle(world, []);
      }
      // how a shard forms is told by other stories
      world.journal.length = 0;
      return world.store.state ? summary(world, world.store.state) : undefined;
    },
  },
  policy: { usage: "policy KEY VALUE", help: "change what the operator has configured, on all peers", run: setPolicy },
  tag: {
    usage: "tag A none | nofailover | nosync | priority=N | zone=NAME …",
    help: "A's operator changes its tags, and sends its sitter SIGHUP",
    run: onPeer((_, peer, words) => setTags(peer, words)),
  },
  settle: {
    usage: "settle [30s]",
    help: "run until clients can commit and everybody is back; fails if that does not come",
    run: settle,
  },
  "settle-or-operator": {
    usage: "settle-or-operator [30s]",
    help: "the same, or all that are stuck name the operator's command",
    run: settleOrOperator,
  },
  run: { usage: "run 5s | run until CONDITION [within 30s]", help: "let time pass", run },
  "wait-for": {
    usage: "wait-for CONDITION within 5s",
    help: "let time pass until it holds, or until the time is over",
    run: (world, words) => {
      const within = words.indexOf("within");
      if (within < 0) throw new ScriptMistake("usage: wait-for CONDITION within 5s");
      runUntil(world, parseDuration(words[within + 1]), () => holds(world, words.slice(0, within)));
    },
  },
  step: { usage: "step [N]", help: "let the next thing happen", run: (world, [n]) => stepTimes(world, Number(n ?? 1)) },
  expect: {
    usage: "expect [not] CONDITION",
    help: `fails unless it holds. Conditions: ${Object.values(CONDITIONS)
      .map(({ usage }) => usage.split(":")[0])
      .join(" | ")}`,
    run: (world, words) => {
      if (!holds(world, words))
        throw new ScenarioFailure(`expected ${words.join(" ")}; it is not so:\n${showShard(world)}`);
    },
  },
  show: { usage: "show", help: "the shard as a table", run: (world) => showShard(world) },
  write: { usage: "write x [on A]", help: "a client commits the value x, wherever it is admitted", run: write },
  writer: {
    usage: "writer 200ms | writer off",
    help: "clients commit by themselves",
    run: (world, [every]) =>
      every === "off" ? void (world.clients.writerEveryMs = undefined) : startWriter(world, parseDuration(every)),
  },
  "kill-postgres": { usage: "kill-postgres A", help: "SIGKILL of PostgreSQL", run: onPeer(faults.killPostgres) },
  "pause-postgres": { usage: "pause-postgres A", help: "SIGSTOP of PostgreSQL", run: onPeer(faults.pausePostgres) },
  "resume-postgres": { usage: "resume-postgres A", help: "SIGCONT of PostgreSQL", run: onPeer(faults.resumePostgres) },
  "fill-disk": {
    usage: "fill-disk A",
    help: "PostgreSQL says that it can't go on",
    run: onPeer((_, peer) => faults.fillDisk(peer)),
  },
  "pause-replay": {
    usage: "pause-replay A",
    help: "a standby receives and does not replay",
    run: onPeer((world, peer) => faults.pauseReplay(world, peer, true)),
  },
  "resume-replay": {
    usage: "resume-replay A",
    help: "it replays again",
    run: onPeer((world, peer) => faults.pauseReplay(world, peer, false)),
  },
  "drop-wal": {
    usage: "drop-wal A",
    help: "A keeps none of the WAL that it has now for others",
    run: onPeer((_, peer) => faults.dropWal(peer)),
  },
  "cut-record": {
    usage: "cut-record A",
    help: "the last that a standby has received is a part of a record, up to behind a segment's boundary",
    run: onPeer((_, peer) => faults.cutRecord(peer)),
  },
  "kill-sitter": {
    usage: "kill-sitter A",
    help: "SIGKILL of the sitter; PostgreSQL goes on",
    run: onPeer(faults.killSitter),
  },
  "restart-sitter": {
    usage: "restart-sitter A",
    help: "the sitter starts (again), without memory",
    run: onPeer(faults.restartSitter),
  },
  pause: { usage: "pause A", help: "SIGSTOP of the sitter", run: onPeer(faults.pauseSitter) },
  resume: { usage: "resume A", help: "SIGCONT of the sitter", run: onPeer(faults.resumeSitter) },
  "kill-host": { usage: "kill-host A", help: "power off", run: onPeer(faults.killHost) },
  "start-host": { usage: "start-host A", help: "power on; the sitter starts", run: onPeer(faults.startHost) },
  "break-link": {
    usage: "break-link A B",
    help: "nothing comes through between A and B",
    run: (world, [a, b]) => faults.breakLink(world, peerNamed(world, a), peerNamed(world, b)),
  },
  "heal-link": {
    usage: "heal-link A B",
    help: "it does again",
    run: (world, [a, b]) => faults.healLink(world, peerNamed(world, a), peerNamed(world, b)),
  },
  isolate: { usage: "isolate A", help: "nothing comes through to A, nor from it", run: onPeer(faults.isolate) },
  "cut-store": { usage: "cut-store A", help: "A does not reach the store", run: onPeer(faults.cutStore) },
  "join-store": { usage: "join-store A", help: "it does again", run: onPeer(faults.joinStore) },
  "stop-store": { usage: "stop-store", help: "the store is down", run: (world) => faults.stopStore(world) },
  "start-store": {
    usage: "start-store [expired]",
    help: "the store is back, with or without its sessions",
    run: (world, [how]) => faults.startStore(world, how === "expired"),
  },
  expire: { usage: "expire A", help: "the store ends A's session", run: onPeer(faults.expire) },
  "delay-writes": {
    usage: "delay-writes A 2s",
    help: "A's writes to the store take that much longer",
    run: onPeer((_, peer, [ms]) => void (peer.faults.delayWritesMs = parseDuration(ms))),
  },
  "lose-answer": {
    usage: "lose-answer A",
    help: "A's next write lands, and A is not told",
    run: onPeer((_, peer) => void (peer.faults.loseAnswer = true)),
  },
  "refuse-write": {
    usage: "refuse-write A",
    help: "A's next write to the store is never sent, and A knows",
    run: onPeer((_, peer) => void (peer.faults.refuseWrite = true)),
  },
  "fail-settings": {
    usage: "fail-settings A",
    help: "A's next change of settings takes effect, and is reported as failed",
    run: onPeer((_, peer) => void (peer.faults.failSettings = true)),
  },
  "land-late": {
    usage: "land-late A 3s",
    help: "A is told nothing of its next write, which lands that much later",
    run: onPeer((_, peer, [ms]) => void (peer.faults.landLateMs = parseDuration(ms))),
  },
  "lag-store": {
    usage: "lag-store A 2s",
    help: "what A reads of the store is that old",
    run: onPeer((_, peer, [ms]) => void (peer.faults.lagMs = parseDuration(ms))),
  },
  "crash-in-promotion": {
    usage: "crash-in-promotion A",
    help: "A's next promotion crashes before its timeline begins",
    run: onPeer((_, peer) => void (peer.faults.crashInPromotion = true)),
  },
  "break-job": {
    usage: "break-job A",
    help: "A's next copy, roll-back, rewind or keeping of a fork is cut short",
    run: onPeer((_, peer) => void (peer.faults.breakJob = true)),
  },
  snapshot: {
    usage: "snapshot A",
    help: "A's storage snapshots its data; the first one says that A's storage can",
    run: onPeer((_, peer) => takeSnapshot(peer)),
  },
  "replace-data": {
    usage: "replace-data A older|older-same-name|empty|foreign",
    help: "A's data is replaced: by an older copy under a new incarnation (or, outside the promise, its old one), nothing, or another database",
    run: onPeer((world, peer, [by]) => {
      if (by !== "older" && by !== "older-same-name" && by !== "empty" && by !== "foreign")
        throw new ScriptMistake("replace-data A older|older-same-name|empty|foreign");
      faults.replaceData(world, peer, by);
    }),
  },
  "lose-state": {
    usage: "lose-state",
    help: "the state document is gone from the store",
    run: (world) => faults.loseState(world),
  },
  "put-state-back": {
    usage: "put-state-back N",
    help: "the store is put back to a document of generation N, as from an old backup of it",
    run: (world, [generation]) => faults.putStateBack(world, Number(generation)),
  },
  heal: {
    usage: "heal",
    help: "ends all faults: hosts, links, processes and the store are well",
    run: (world) => faults.healAll(world),
  },
  freeze: { usage: "freeze", help: "manatee-adm freeze", run: asOperator((world) => operator.freeze(world, true)) },
  unfreeze: {
    usage: "unfreeze",
    help: "manatee-adm unfreeze",
    run: asOperator((world) => operator.freeze(world, false)),
  },
  promote: {
    usage: "promote A [expired|wrong-generation|malformed]",
    help: "manatee-adm promote",
    run: asOperator((world, [a, flaw]) =>
      operator.promote(world, peerNamed(world, a), flaw as operator.PromoteFlaw | undefined),
    ),
  },
  "clear-promote": {
    usage: "clear-promote",
    help: "manatee-adm clear-promote",
    run: asOperator((world) => operator.clearPromote(world)),
  },
  reap: {
    usage: "reap A",
    help: "manatee-adm reap",
    run: asOperator((world, [a]) => operator.reap(world, peerNamed(world, a))),
  },
  "set-onwm": {
    usage: "set-onwm on|off",
    help: "manatee-adm set-onwm",
    run: asOperator((world, [mode]) => operator.setOneNodeWriteMode(world, mode === "on")),
  },
  rebuild: {
    usage: "rebuild A [from B] [full]",
    help: "manatee-adm rebuild [--from B] [--full], on A",
    run: onPeer((world, peer, words) => {
      const from = words[0] === "from" ? peerNamed(world, words[1]).address.id : undefined;
      if (peer.sitter) peer.sitter.rebuildRequested = { from, full: words.includes("full") };
    }),
  },
  "takeover-accept-loss": {
    usage: "takeover-accept-loss A",
    help: "manatee-adm takeover --accept-loss, for A",
    run: asOperator((world, [a]) => operator.takeOverAcceptingLoss(world, peerNamed(world, a))),
  },
  "restore-state": {
    usage: "restore-state A",
    help: "manatee-adm state restore, with the last document that A saw",
    run: asOperator((world, [a]) => operator.restoreState(world, peerNamed(world, a))),
  },
};
