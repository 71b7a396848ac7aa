// How long clients can't write, fault by fault, where every peer is a host of its own: network namespaces on a bridge, the real store, real PostgreSQL, and the
// configuration that is shipped as default. After each fault every peer is back by itself, and no write was lost. `npm run bench:faults -- --help`.

import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import Table from "cli-table3";
import { Command, Option } from "commander";
import { DEFAULTS } from "../src/config/defaults.ts";
import { longestGap } from "../test/support/history.ts";
import { Network, type NetworkHost, OWN_IP, rerunInOwnNetwork } from "../test/support/hosts.ts";
import { buildRuntime, removeRuntime } from "../test/support/runtime.ts";
import { startShard } from "../test/support/start-shard.ts";
import { FAULTS, type Fault, type Scene } from "./lib/faults.ts";
import { seconds, type Summary, summarize } from "./lib/statistics.ts";

interface Options {
  readonly runs: number;
  readonly only: readonly string[];
  readonly session: number;
  readonly json?: string;
}

interface Measured extends Summary {
  readonly fault: Fault;
  readonly gapsMs: readonly number[];
}

/** Before a fault: the writers are at their pace, and the sitters have learned their links. */
const REST_MS = 3_000;
/** What was under way when the fault came began before it. */
const BEFORE_MS = 500;

const inside = await rerunInOwnNetwork().catch((error: Error) => {
  console.error(error.message);
  return 1;
});
if (inside === undefined) await main();
else process.exitCode = inside;

async function main(): Promise<void> {
  const options = readOptions();
  const runtime = await buildRuntime();
  const network = new Network();
  try {
    const hosts = [await network.host(), await network.host(), await network.host()];
    const measured: Measured[] = [];
    for (const fault of FAULTS)
      if (options.only.length === 0 || options.only.includes(fault.name))
        measured.push(await measure(fault, hosts, options));
    console.log(tableOf(measured));
    if (measured.some((one) => isMet(one) === false)) process.exitCode = 1;
    const json = JSON.stringify(resultOf(measured, options));
    if (options.json === undefined) console.log(json);
    else writeFileSync(options.json, `${json}\n`);
  } finally {
    network.close();
    await removeRuntime(runtime);
  }
}

function readOptions(): Options {
  const names = FAULTS.map(({ name }) => name);
  return new Command("bench:faults")
    .description(
      "Measures how long clients can't write under each fault, with every peer on a host of its own.\nNeeds root: the hosts are network namespaces, which go when it ends.",
    )
    .option("--runs <N>", "runs of each fault", Number, 10)
    .addOption(new Option("--only <FAULT...>", "these faults").choices(names).default([]))
    .option("--session <MS>", "session timeout in the store", Number, DEFAULTS.sessionTimeoutMs)
    .option("--json <FILE>", "write the numbers there instead of printing them")
    .addHelpText("after", `\nFaults:\n${FAULTS.map(({ name, description }) => `  ${name}  ${description}`).join("\n")}`)
    .parse()
    .opts<Options>();
}

/** On a shard of its own. */
async function measure(fault: Fault, hosts: readonly NetworkHost[], options: Options): Promise<Measured> {
  const shard = await startShard({
    hosts,
    storeAddress: OWN_IP,
    sessionTimeoutMs: options.session,
    // As shipped, but that ten runs are more takeovers than a shard should have in an hour.
    config: { policy: { suspectMs: DEFAULTS.policy.suspectMs, takeoversPerHourMax: 1000 } },
  });
  const scene: Scene = { shard, host: (peer) => hosts[shard.peers.indexOf(peer)] ?? fail(`${peer.name} has no host`) };
  const gapsMs: number[] = [];
  try {
    await shard.writer({ readEveryMs: 500, spread: true });
    for (let run = 0; run < options.runs; run++) {
      await shard.waitForChain();
      await sleep(REST_MS);
      const from = shard.history.now();
      const what = await fault.inflict(scene, run);
      await shard.waitForChain();
      await shard.waitForWrites(1);
      const gap = longestGap(shard.history.operations, { from: from - BEFORE_MS }) ?? fail("nothing was written");
      gapsMs.push(gap.lengthMs);
      console.error(`${fault.name} ${run + 1}/${options.runs}: ${seconds(gap.lengthMs)}${what ? ` (${what})` : ""}`);
    }
    await shard.check();
  } finally {
    await shard.stop();
  }
  return { fault, gapsMs, ...summarize(gapsMs) };
}

function fail(message: string): never {
  throw new Error(message);
}

/** undefined: it has no goal. */
function isMet({ fault: { goal }, medianMs, worstMs }: Measured): boolean | undefined {
  return goal && medianMs <= goal.medianMs && worstMs <= goal.worstMs;
}

function tableOf(measured: readonly Measured[]): string {
  const table = new Table({
    head: ["", "fault", "runs", "median", "worst", "wanted", ""],
    style: { head: [], border: [] },
    colAligns: ["left", "left", "right", "right", "right", "right", "left"],
  });
  for (const one of measured) {
    const { fault, runs, medianMs, worstMs } = one;
    const { goal } = fault;
    const met = isMet(one);
    const wanted = goal ? `${seconds(goal.medianMs)} / ${seconds(goal.worstMs)}` : "";
    table.push([
      fault.name,
      fault.description,
      runs,
      seconds(medianMs),
      seconds(worstMs),
      wanted,
      met === undefined ? "" : met ? "met" : "missed",
    ]);
  }
  return `Longest time between two acknowledged inserts of any client; nothing was lost, and every peer came back by itself\n${table.toString()}`;
}

function resultOf(measured: readonly Measured[], options: Options) {
  return {
    measuredAt: new Date().toISOString(),
    machine: { cpus: availableParallelism(), model: cpus()[0]?.model, node: process.version },
    options,
    faults: measured.map(({ fault: { name, description, goal }, ...numbers }) => ({
      name,
      description,
      goal,
      ...numbers,
    })),
  };
}
