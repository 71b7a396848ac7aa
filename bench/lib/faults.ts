// The faults of bench:faults: what befalls a shard whose peers are hosts of their own, and how it ends. Each leaves the shard so that every peer can come back by itself.

import { setTimeout as sleep } from "node:timers/promises";
import type { NetworkHost } from "../../test/support/hosts.ts";
import type { TestPeer } from "../../test/support/peer.ts";
import { LONG_MS, type TestShard } from "../../test/support/shard.ts";

export interface Scene {
  readonly shard: TestShard;
  readonly host: (peer: TestPeer) => NetworkHost;
}

export interface Fault {
  readonly name: string;
  readonly description: string;
  /** undefined: it is there to be compared with. */
  readonly goal: { readonly medianMs: number; readonly worstMs: number } | undefined;
  /** Resolves with a word on what it was, where runs differ. */
  inflict(scene: Scene, run: number): Promise<string | undefined>;
}

const FROZEN_MS = 30_000;
const STORE_AWAY_MS = 60_000;
const AGENT_AWAY_MS = 10_000;
const ONE_WAY_MS = 20_000;

export const FAULTS: readonly Fault[] = [
  {
    name: "none",
    description: "no fault, for a minute: what the machine itself does",
    goal: undefined,
    inflict: () => sleep(STORE_AWAY_MS, undefined),
  },
  {
    name: "a",
    description: "SIGKILL of the primary's postmaster",
    goal: { medianMs: 400, worstMs: 1_000 },
    inflict: ({ shard }) => losePrimary(shard, (primary) => primary.killPostgres()),
  },
  {
    name: "b",
    description: "the primary's host crashes: its kernel answers with resets",
    goal: { medianMs: 500, worstMs: 1_500 },
    inflict: ({ shard }) =>
      losePrimary(
        shard,
        (primary) => primary.crash(),
        (primary) => primary.startSitter(),
      ),
  },
  {
    name: "c",
    description: "the primary's host vanishes: packets are dropped",
    goal: { medianMs: 2_000, worstMs: 3_000 },
    inflict: ({ shard, host }) =>
      losePrimary(
        shard,
        (primary) => {
          host(primary).unplug();
          return primary.crash();
        },
        (primary) => {
          host(primary).plug();
          primary.startSitter();
        },
      ),
  },
  {
    name: "d",
    description: "the primary's host freezes for 30 s and comes back",
    goal: { medianMs: 2_000, worstMs: 3_000 },
    inflict: ({ shard }) =>
      losePrimary(
        shard,
        async (primary) => {
          primary.freeze();
          await sleep(FROZEN_MS);
        },
        (primary) => primary.thaw(),
      ),
  },
  {
    name: "e",
    description: "planned switchover",
    goal: { medianMs: 300, worstMs: 800 },
    inflict: async ({ shard }) => {
      const sync = await shard.sync();
      const { status, stdout, stderr } = await shard.adm("promote", "-r", "sync", "-n", sync.name, "-y");
      if (status !== 0) throw new Error(`promote failed: ${stdout}${stderr}`);
      return undefined;
    },
  },
  {
    name: "f",
    description: "the sync's host crashes",
    goal: { medianMs: 500, worstMs: 1_500 },
    inflict: async ({ shard }) => {
      const { sync } = await shard.state();
      const victim = await shard.sync();
      await victim.crash();
      await shard.waitFor("another sync is named", ({ state }) => state?.sync?.id !== sync?.id, LONG_MS);
      await shard.waitForWrites(1);
      victim.startSitter();
      return undefined;
    },
  },
  {
    name: "g",
    description: "the whole coordination store is down for 60 s",
    goal: { medianMs: 100, worstMs: 300 },
    inflict: async ({ shard }) => {
      const before = await shard.state();
      await shard.store.stop();
      await sleep(STORE_AWAY_MS);
      await shard.store.start();
      await sameReign(shard, before.generation);
      return undefined;
    },
  },
  {
    name: "h",
    description: "the agent alone is killed on the primary, and started again after 10 s",
    goal: { medianMs: 100, worstMs: 300 },
    inflict: async ({ shard }) => {
      const primary = await shard.primary();
      await primary.killSitter();
      await sleep(AGENT_AWAY_MS);
      primary.startSitter();
      return undefined;
    },
  },
  {
    name: "i",
    description: "a link is cut one way only, for 20 s; each direction of each pair in turn",
    goal: { medianMs: 2_000, worstMs: 3_000 },
    inflict: async ({ shard, host }, run) => {
      const roles = [await shard.primary(), await shard.sync(), await shard.async()] as const;
      const pairs = [
        [0, 1],
        [1, 0],
        [0, 2],
        [2, 0],
        [1, 2],
        [2, 1],
      ] as const;
      const [from, to] = pairs[run % pairs.length] ?? [0, 1];
      const names = ["the primary", "the sync", "the async"] as const;
      host(roles[from]).loseTo(roles[to].ip);
      await sleep(ONE_WAY_MS);
      host(roles[from]).reachAgain(roles[to].ip);
      return `${names[from]} is not heard by ${names[to]}`;
    },
  },
];

/** The sync takes over, writes go on, and what was lost comes back by `mend`. */
async function losePrimary(
  shard: TestShard,
  inflict: (primary: TestPeer) => Promise<void>,
  mend: (primary: TestPeer) => void = () => undefined,
): Promise<undefined> {
  const before = await shard.state();
  const primary = shard.peer(before.primary.id);
  await inflict(primary);
  try {
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
      LONG_MS,
    );
    await shard.waitForWrites(1);
  } finally {
    mend(primary);
  }
  return undefined;
}

async function sameReign(shard: TestShard, generation: number): Promise<void> {
  const { state } = await shard.waitForChain();
  if (state?.generation !== generation)
    throw new Error(`generation ${generation} became ${state?.generation}, though nothing but the store was away`);
}
