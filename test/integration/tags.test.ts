// Operators' tags on a whole shard: whom they choose as sync, whom they keep from taking over, and what the shard says then.

import { expect } from "vitest";
import type { StateDocument } from "../support/documents.ts";
import type { TestPeer } from "../support/peer.ts";
import { signal } from "../support/processes.ts";
import { scenario } from "../support/scenario.ts";
import type { TestShard } from "../support/shard.ts";

/** Gives these tags, and no others, to that peer and sends its sitter SIGHUP; returns when it has read them. */
async function tag(shard: TestShard, peer: TestPeer, tags: Readonly<Record<string, unknown>>): Promise<void> {
  const count = async () => (await peer.logEntries()).filter(({ msg }) => msg === "configuration taken again").length;
  const before = await count();
  await peer.configure({ tags });
  signal(peer.sitterPid ?? 0, "SIGHUP");
  await expect.poll(count, { timeout: 30_000 }).toBeGreaterThan(before);
}

async function shownTags(shard: TestShard): Promise<Record<string, string | null>> {
  const { peers } = JSON.parse((await shard.adm("show", "-o", "json")).stdout) as {
    peers: { peername: string; tags: string | null }[];
  };
  return Object.fromEntries(peers.map(({ peername, tags }) => [peername, tags]));
}

const syncIs =
  (id: string | undefined) =>
  ({ state }: { state: StateDocument | undefined }): boolean =>
    state?.sync?.id === id;

scenario(
  "S1, T1: a sync is chosen in another zone and never while tagged nosync; nofailover holds a takeover, and says so",
  { peers: 4 },
  async (shard) => {
    await shard.writer();
    const before = await shard.state();
    const [primary, sync, first, second] = [before.primary, before.sync, ...before.async].map((entry) =>
      shard.peer(entry?.id ?? ""),
    ) as [TestPeer, TestPeer, TestPeer, TestPeer];
    await tag(shard, primary, { zone: "east" });
    await tag(shard, first, { zone: "east" });
    await tag(shard, second, { zone: "west" });
    await expect
      .poll(() => shownTags(shard), { timeout: 30_000 })
      .toEqual({
        [before.primary.zoneId]: "zone east",
        [before.sync?.zoneId ?? ""]: null,
        [before.async[0]?.zoneId ?? ""]: "zone east",
        [before.async[1]?.zoneId ?? ""]: "zone west",
      });
    expect((await shard.state()).sync?.id).toBe(before.sync?.id);

    await sync.crash();
    await shard.waitFor("the async of the other zone is sync", syncIs(before.async[1]?.id));
    sync.startSitter();
    await shard.waitForChain();

    await tag(shard, second, { nosync: true });
    await shard.waitFor("the sync that is tagged nosync has given way", syncIs(before.sync?.id));
    await shard.waitForWrites(20);
    await shard.waitForChain();
    expect((await shard.state()).primary.id).toBe(before.primary.id);

    for (const peer of [sync, first, second]) await tag(shard, peer, { nofailover: true });
    await expect
      .poll(async () => (await shard.adm("verify")).stdout, { timeout: 30_000 })
      .toContain("every standby is tagged nofailover");
    const { generation, sync: held } = await shard.state();
    const holder = shard.peer(held?.id ?? "");
    await primary.crash();
    await expect
      .poll(async () => JSON.stringify((await holder.logEntries()).slice(-30)), { timeout: 60_000 })
      .toContain("take nofailover out of the tags");
    expect((await shard.state()).generation).toBe(generation);
    await tag(shard, holder, { nofailover: false });
    await shard.waitFor(
      "it has taken over",
      ({ state }) => state !== undefined && state.generation > generation && state.primary.id === held?.id,
    );
    await shard.waitForWritesOn(holder);
    primary.startSitter();
    await shard.waitForChain();
    await shard.check();
  },
);
