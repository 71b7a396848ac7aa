// Hosts that crash, vanish, freeze, or are heard one way only: every peer in a network namespace of its own, and the configuration that is shipped. The faults are
// those of bench:faults, once each; here the checker judges. Run by `npm test -- chaos`, in a network of its own.

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { DEFAULTS } from "../../src/config/defaults.ts";
import { FAULTS, type Scene } from "../../bench/lib/faults.ts";
import { Network, OWN_IP } from "../support/hosts.ts";
import { LONG_MS, type TestShard } from "../support/shard.ts";
import { startShard } from "../support/start-shard.ts";

describe("with every peer on a host of its own", () => {
  let network: Network;
  let shard: TestShard;
  let scene: Scene;

  beforeAll(async () => {
    network = new Network();
    const hosts = [await network.host(), await network.host(), await network.host()];
    shard = await startShard({
      hosts,
      storeAddress: OWN_IP,
      sessionTimeoutMs: DEFAULTS.sessionTimeoutMs,
      config: { policy: { suspectMs: DEFAULTS.policy.suspectMs, takeoversPerHourMax: 1000 } },
    });
    scene = {
      shard,
      host(peer) {
        const host = hosts[shard.peers.indexOf(peer)];
        if (host === undefined) throw new Error(`${peer.name} has no host`);
        return host;
      },
    };
  });
  afterEach(async () => {
    await shard.check();
  });
  afterAll(async () => {
    await shard?.stop();
    network?.close();
  });

  async function befalls(name: string, run = 0): Promise<void> {
    const fault = FAULTS.find((one) => one.name === name);
    if (fault === undefined) throw new Error(`there is no fault ${name}`);
    await shard.writer({ spread: true });
    await fault.inflict(scene, run);
    await shard.waitForChain();
    await shard.waitForWrites(10);
  }

  it("T1: the primary's host crashes", () => befalls("b"));
  it("T1: the primary's host vanishes, and comes back", () => befalls("c"));
  it("I4: the primary's host freezes for longer than its session, and goes on with what it believed", () =>
    befalls("d"));
  it("S1: the sync's host crashes", () => befalls("f"));

  it("S1: the sync's host vanishes, and comes back", async () => {
    await shard.writer({ spread: true });
    const sync = await shard.sync();
    scene.host(sync).unplug();
    try {
      await shard.waitFor("another sync is named", ({ state }) => state?.sync?.id !== sync.id, LONG_MS);
      await shard.waitForWrites(10);
    } finally {
      scene.host(sync).plug();
    }
    await shard.waitForChain();
  });

  it("A2: the async's host vanishes, and comes back: nobody else changes place", async () => {
    await shard.writer({ spread: true });
    const before = await shard.state();
    const async = await shard.async();
    scene.host(async).unplug();
    try {
      await shard.waitFor("it has left the chain", ({ state }) => state?.async.length === 0, LONG_MS);
      await shard.waitForWrites(10);
    } finally {
      scene.host(async).plug();
    }
    await shard.waitForChain();
    const after = await shard.state();
    expect([after.generation, after.primary.id, after.sync?.id]).toEqual([
      before.generation,
      before.primary.id,
      before.sync?.id,
    ]);
  });

  it("D2: the sync hears nothing from the primary, which hears it", () => befalls("i", 0));
  it("D2: the primary hears nothing from the sync, which hears it", () => befalls("i", 1));

  it("D2: an async that hears nothing from the primary is no reason for a takeover", async () => {
    const before = await shard.state();
    await befalls("i", 2);
    const after = await shard.state();
    expect(after.primary.id).toBe(before.primary.id);
  });
});
