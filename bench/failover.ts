// How long clients can't write: after the primary's PostgreSQL is killed, after its host is lost, and in a switchover. Real servers on
// loopback; the gap is the longest time between two acknowledged inserts of any client. `npm run bench:failover -- --help`.

import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import Table from "cli-table3";
import { Command, Option } from "commander";
import { longestGap } from "../test/support/history.ts";
import type { PostgresChoice } from "../test/support/postgres-binaries.ts";
import { buildRuntime, removeRuntime } from "../test/support/runtime.ts";
import { LONG_MS, type TestShard } from "../test/support/shard.ts";
import { startShard } from "../test/support/start-shard.ts";
import { seconds, type Summary, summarize } from "./lib/statistics.ts";
import { type Silencer, silencerOf } from "./lib/silence.ts";

interface Fault {
  readonly name: string;
  readonly description: string;
  readonly goal: { readonly medianMs: number; readonly worstMs: number };
  /** Does it to the primary, and leads the shard back to a whole chain. */
  inflict(shard: TestShard): Promise<void>;
}

interface Options {
  readonly runs: number;
  readonly only: readonly string[];
  readonly store: "zookeeper" | "local";
  readonly postgres: PostgresChoice;
  readonly clients: number;
  readonly pause: number;
  readonly session: number;
  readonly json?: string;
}

interface Measured extends Summary {
  readonly fault: Fault;
  readonly gapsMs: readonly number[];
}

const FAULTS: readonly Fault[] = [
  {
    name: "postgres",
    description: "SIGKILL of the primary's PostgreSQL",
    goal: { medianMs: 2000, worstMs: 4000 },
    inflict: async (shard) => (await shard.primary()).killPostgres(),
  },
  {
    name: "host-session",
    description: "the primary's host vanishes: nothing answers any more",
    goal: { medianMs: 7000, worstMs: 9000 },
    inflict: (shard) => loseHost(shard, { silent: true }),
  },
  {
    name: "host-evidence",
    description: "SIGKILL of sitter and PostgreSQL: both ports refuse",
    goal: { medianMs: 7000, worstMs: 9000 },
    inflict: (shard) => loseHost(shard, { silent: false }),
  },
  {
    name: "switchover",
    description: "promote of the sync",
    goal: { medianMs: 1500, worstMs: 1500 },
    inflict: switchOver,
  },
];

/** Before a fault: long enough that the shard is at rest, and the writers at their pace. */
const REST_WRITES = 40;

await main();

async function main(): Promise<void> {
  const options = readOptions();
  const runtime = await buildRuntime();
  try {
    const measured: Measured[] = [];
    for (const fault of FAULTS)
      if (options.only.length === 0 || options.only.includes(fault.name)) measured.push(await measure(fault, options));
    console.log(tableOf(measured, options));
    const late = evidenceIsLate(measured);
    if (late !== undefined) console.log(late);
    if (late !== undefined || !measured.every(isMet)) process.exitCode = 1;
    const json = JSON.stringify(resultOf(measured, options));
    if (options.json === undefined) console.log(json);
    else writeFileSync(options.json, `${json}\n`);
  } finally {
    await removeRuntime(runtime);
  }
}

function readOptions(): Options {
  return new Command("bench:failover")
    .description(
      "Measures how long clients can't write when the primary is lost or changed. Exit status 1: a goal was missed.",
    )
    .option("--runs <N>", "runs of each fault", Number, 20)
    .addOption(new Option("--only <FAULT...>", "these faults").choices(FAULTS.map(({ name }) => name)).default([]))
    .addOption(new Option("--store <STORE>").choices(["zookeeper", "local"]).default("zookeeper"))
    .addOption(
      new Option("--postgres <WHICH>").choices(["system", "embedded-newest", "embedded-oldest"]).default("system"),
    )
    .option("--clients <N>", "writers", Number, 4)
    .option("--pause <MS>", "between two inserts of a writer", Number, 25)
    .option("--session <MS>", "session timeout in the store", Number, 4000)
    .option("--json <FILE>", "write the numbers there instead of printing them")
    .parse()
    .opts<Options>();
}

async function measure(fault: Fault, options: Options): Promise<Measured> {
  const shard = await startShard({
    store: options.store,
    postgres: options.postgres,
    sessionTimeoutMs: options.session,
  });
  const gapsMs: number[] = [];
  try {
    await shard.writer({ clients: options.clients, pauseMs: options.pause, readEveryMs: 0 });
    for (let run = 0; run < options.runs; run++) {
      await shard.waitForChain();
      await shard.waitForWrites(REST_WRITES);
      const from = shard.history.now();
      await fault.inflict(shard);
      await shard.waitForChain();
      await shard.waitForWrites(1);
      const gap = longestGap(shard.history.operations, { from: from - 500 });
      if (gap === undefined) throw new Error("nothing was written after the fault");
      gapsMs.push(gap.lengthMs);
      console.error(`${fault.name} ${run + 1}/${options.runs}: ${seconds(gap.lengthMs)}`);
    }
    await shard.check();
  } finally {
    await shard.stop();
  }
  return { fault, gapsMs, ...summarize(gapsMs) };
}

async function loseHost(shard: TestShard, { silent }: { silent: boolean }): Promise<void> {
  const before = await shard.state();
  const victim = shard.peer(before.primary.id);
  const silencers: Silencer[] = silent ? await Promise.all([silencerOf(victim.port), silencerOf(victim.port + 1)]) : [];
  try {
    for (const silencer of silencers) silencer.take();
    await victim.crash();
    await shard.waitFor(
      "the sync has taken over",
      ({ state }) => state?.primary.id === before.sync?.id && state?.provisional !== true,
      LONG_MS,
    );
    await shard.waitForWrites(1);
  } finally {
    await Promise.all(silencers.map((silencer) => silencer.end()));
  }
  victim.startSitter();
}

async function switchOver(shard: TestShard): Promise<void> {
  const sync = await shard.sync();
  const { status, stdout, stderr } = await shard.adm("promote", "-r", "sync", "-n", sync.name, "-y");
  if (status !== 0) throw new Error(`promote failed: ${stdout}${stderr}`);
}

function isMet({ fault: { goal }, medianMs, worstMs }: Measured): boolean {
  return medianMs <= goal.medianMs && worstMs <= goal.worstMs;
}

/** Ports that refuse are known sooner than a session's end; undefined: so it is, or one of the two was not measured. */
function evidenceIsLate(measured: readonly Measured[]): string | undefined {
  const medianOf = (name: string) => measured.find(({ fault }) => fault.name === name)?.medianMs;
  const [evidence, session] = [medianOf("host-evidence"), medianOf("host-session")];
  if (evidence === undefined || session === undefined || evidence < session) return undefined;
  return `missed: evidence (${seconds(evidence)}) is not sooner than the session's end (${seconds(session)})`;
}

function tableOf(measured: readonly Measured[], { postgres, store, session }: Options): string {
  const table = new Table({
    head: ["fault", "runs", "median", "worst", "wanted", ""],
    style: { head: [], border: [] },
    colAligns: ["left", "right", "right", "right", "right", "left"],
  });
  for (const one of measured) {
    const { fault, runs, medianMs, worstMs } = one;
    const wanted = `${seconds(fault.goal.medianMs)} / ${seconds(fault.goal.worstMs)}`;
    table.push([fault.description, runs, seconds(medianMs), seconds(worstMs), wanted, isMet(one) ? "met" : "missed"]);
  }
  return `Longest time between two acknowledged inserts of any client; PostgreSQL ${postgres}, store ${store}, session ${seconds(session)}\n${table.toString()}`;
}

function resultOf(measured: readonly Measured[], options: Options) {
  return {
    measuredAt: new Date().toISOString(),
    machine: { cpus: availableParallelism(), model: cpus()[0]?.model, node: process.version },
    options,
    faults: measured.map(({ fault, ...numbers }) => ({
      name: fault.name,
      description: fault.description,
      goal: fault.goal,
      ...numbers,
    })),
  };
}
