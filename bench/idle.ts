// What a shard at rest costs: CPU and memory of each sitter, and writes to the store. `npm run bench:idle -- --help`.

import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import Table from "cli-table3";
import { Command, Option } from "commander";
import { buildRuntime, removeRuntime } from "../test/support/runtime.ts";
import { SHARD_PATH } from "../test/support/shard.ts";
import type { TestStore } from "../test/support/store.ts";
import { registrarPath } from "../src/shard/registrar-path.ts";
import { startShard } from "../test/support/start-shard.ts";

const GOAL = { cpuPercent: 1.5, memoryMb: 120 };
/** USER_HZ, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
await main();

async function main(): Promise<void> {
  const options = new Command("bench:idle")
    .description("Measures what a shard of three peers costs while nobody uses it. Exit status 1: a goal was missed.")
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
    const nodesBefore = await nodesOf(shard.store);
    await delay(options.seconds * 1000);
    const after = shard.peers.map(({ sitterPid }) => usageOf(sitterPid));
    const writes = changesBetween(nodesBefore, await nodesOf(shard.store));
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
      `goal: at most ${GOAL.cpuPercent} % and ${GOAL.memoryMb} MB, no writes to the store; writes: ${writes}`,
    );
    console.log(JSON.stringify(worst));
    if (worst.cpuPercent > GOAL.cpuPercent || worst.memoryMb > GOAL.memoryMb || writes > 0) process.exitCode = 1;
  } finally {
    await shard.stop();
    await removeRuntime(runtime);
  }
}

/** Each node of the shard, and of service discovery, with its version. */
async function nodesOf(store: TestStore): Promise<ReadonlyMap<string, number>> {
  const nodes = new Map<string, number>();
  const visit = async (path: string): Promise<void> => {
    const node = await store.read(path);
    if (node) nodes.set(path, node.version);
    for (const child of (await store.list(path)) ?? []) await visit(`${path}/${child}`);
  };
  for (const path of [SHARD_PATH, registrarPath(SHARD_PATH.slice(SHARD_PATH.lastIndexOf("/") + 1))]) await visit(path);
  return nodes;
}

/** Nodes that came or went, and sets of those that stayed. */
function changesBetween(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): number {
  const paths = new Set([...before.keys(), ...after.keys()]);
  const changes = [...paths].map((path) => {
    const [from, to] = [before.get(path), after.get(path)];
    return from === undefined || to === undefined ? 1 : to - from;
  });
  return changes.reduce((sum, one) => sum + one, 0);
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
