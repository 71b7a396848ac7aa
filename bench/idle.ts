// What a shard at rest costs: CPU and memory of each sitter, and writes to the store. `npm run bench:idle -- --help`.

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import Table from "cli-table3";
import { Command, Option } from "commander";
import { buildRuntime, removeRuntime } from "../test/support/runtime.ts";
import { startShard } from "../test/support/start-shard.ts";

const GOAL = { cpuPercent: 1.5, memoryMb: 120 };
/** USER_HZ, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
await main();

async function main(): Promise<void> {
  const options = new Command("bench:idle")
    .description("Measures what a shard of three peers costs while nobody uses it.")
    .option("--seconds <N>", "how long it is watched", Number, 60)
    .option(
      "--settle <N>",
      "seconds to wait before: for two minutes after its start, Node still compiles what it runs, and collects what the start has left",
      Number,
      120,
    )
    .addOption(new Option("--store <STORE>").choices(["zookeeper", "local"]).default("zookeeper"))
    .option("--adopted", "restart the sitters first, so that each watches a server that it did not start")
    .parse()
    .opts<{ seconds: number; settle: number; store: "zookeeper" | "local"; adopted?: true }>();
  const runtime = await buildRuntime();
  const shard = await startShard({ store: options.store, sessionTimeoutMs: 10_000 });
  try {
    if (options.adopted) {
      for (const peer of shard.peers) await peer.killSitter();
      for (const peer of shard.peers) peer.startSitter();
      await shard.waitForChain();
    }
    await delay(options.settle * 1000);
    const before = shard.peers.map(({ sitterPid }) => usageOf(sitterPid));
    const versionBefore = (await shard.stateHistory()).length;
    await delay(options.seconds * 1000);
    const after = shard.peers.map(({ sitterPid }) => usageOf(sitterPid));
    const writes = (await shard.stateHistory()).length - versionBefore;
    const table = new Table({ head: ["sitter", "CPU, % of a core", "memory, MB"], style: { head: [], border: [] } });
    const cpu = after.map(({ cpuSeconds }, i) => ((cpuSeconds - (before[i]?.cpuSeconds ?? 0)) / options.seconds) * 100);
    for (const [i, peer] of shard.peers.entries())
      table.push([peer.name, cpu[i]?.toFixed(2) ?? "", after[i]?.memoryMb.toFixed(0) ?? ""]);
    console.log(table.toString());
    const worst = {
      cpuPercent: Math.max(...cpu),
      memoryMb: Math.max(...after.map(({ memoryMb }) => memoryMb)),
      writes,
    };
    console.log(
      `goal: at most ${GOAL.cpuPercent} % and ${GOAL.memoryMb} MB, no writes to the state; writes: ${writes}`,
    );
    console.log(JSON.stringify(worst));
  } finally {
    await shard.stop();
    await removeRuntime(runtime);
  }
}

function usageOf(pid: number | undefined): { cpuSeconds: number; memoryMb: number } {
  if (pid === undefined) throw new Error("a sitter does not run");
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return {
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    memoryMb: Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1024,
  };
}
