// Makes WALs fork.

import type { TestPeer } from "./peer.ts";
import { signal } from "./processes.ts";
import type { TestShard } from "./shard.ts";

/**
 * The primary writes what no standby gets, then its host crashes and the sync takes over. Returns the former primary, which is
 * down.
 */
export async function forkPrimary(shard: TestShard): Promise<TestPeer> {
  const before = await shard.state();
  const victim = shard.peer(before.primary.id);
  const client = await shard.client(victim);
  await client.query("CREATE TABLE IF NOT EXISTS forked (n int)");
  // A frozen standby would still find what lies in its socket; what a frozen walsender has not sent is nowhere else.
  const walsenders = victim.postgresProcesses().filter(({ args }) => args[0]?.includes("walsender"));
  if (walsenders.length === 0) throw new Error(`${victim.name} has no walsender`);
  for (const { pid } of walsenders) signal(pid, "SIGSTOP");
  // Nobody who asked for it is told "committed": this session asks for less.
  await client.query("SET synchronous_commit = local");
  await client.query("INSERT INTO forked SELECT generate_series(1, 1000)");
  await victim.crash();
  await shard.waitFor(
    "the sync has taken over",
    ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
    60_000,
  );
  await shard.waitForWrites(20);
  return victim;
}
