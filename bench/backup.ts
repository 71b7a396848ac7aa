// What the backup server costs beside a bare `send | socket | receive` of the same commands in the same run, and whether its memory stays constant.
// `npm run bench:backup -- --help`.

import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import Table from "cli-table3";
import { Command } from "commander";
import { receiveSnapshot } from "../src/backup/receive.ts";
import { realTimers } from "../src/world/real/clock.ts";
import { realLog } from "../src/world/real/log.ts";
import { realBackupClient } from "../test/support/backup.ts";
import { type Commands, ended, pipeStorage, SNAPSHOT, start } from "./lib/pipe-storage.ts";
import { PASSWORD, serveBench } from "./lib/backup-process.ts";
import { summarize } from "./lib/statistics.ts";

const GOAL = { ratio: 0.9, growthMb: 64 };

if (process.argv[2] === "--serve") await serveBench(JSON.parse(process.argv[3] ?? "") as Commands);
else await main();

async function main(): Promise<void> {
  const options = new Command("bench:backup")
    .description(
      "Measures a stream from a backup server beside a bare pipe over a socket, of the same two commands in turn. Without commands, zeros are sent to nowhere: " +
        "that shows the most that the server can do, and its memory.",
    )
    .option("--gigabytes <N>", "length of the stream of zeros", Number, 4)
    .option("--send <COMMAND>", "writes a snapshot to its standard output: zfs send tank/pg@1")
    .option("--receive <COMMAND>", "reads it from its standard input: zfs receive -u tank/copy")
    .option("--between <COMMAND>", "makes room for the next one: zfs destroy -r tank/copy")
    .option("--runs <N>", "of each", Number, 3)
    .addHelpText("after", "\nCommands are words between blanks, without a shell.")
    .parse()
    .opts<{ gigabytes: number; send?: string; receive?: string; between?: string; runs: number }>();
  const zeros = ["dd", "if=/dev/zero", "bs=1M", `count=${Math.round(options.gigabytes * 1024)}`, "status=none"];
  const commands: Commands = {
    send: options.send?.split(" ") ?? zeros,
    receive: options.receive?.split(" ") ?? ["dd", "of=/dev/null", "bs=1M", "status=none"],
  };
  const between = async () => {
    if (options.between !== undefined) await ended(start(options.between.split(" "), ["ignore", "ignore", "inherit"]));
  };
  const bytes = await lengthOf(commands.send);
  const results = { bareMbPerS: [] as number[], backupMbPerS: [] as number[] };
  let growthMb = 0;
  for (let run = 0; run < options.runs; run++) {
    results.bareMbPerS.push(await rate(bytes, () => bare(commands)));
    await between();
    const ours = await throughBackupServer(commands, bytes);
    await between();
    results.backupMbPerS.push(ours.mbPerS);
    growthMb = Math.max(growthMb, ours.growthMb);
  }
  const table = new Table({ head: ["", "MB/s", "median"], style: { head: [], border: [] } });
  for (const [name, rates] of Object.entries(results))
    table.push([name, rates.map((one) => one.toFixed(0)).join(" "), medianOf(rates).toFixed(0)]);
  console.log(table.toString());
  const ratio = medianOf(results.backupMbPerS) / medianOf(results.bareMbPerS);
  console.log(
    `ratio ${ratio.toFixed(2)} (goal ${GOAL.ratio}); memory grew by ${growthMb.toFixed(0)} MB (goal ${GOAL.growthMb})`,
  );
}

function medianOf(values: readonly number[]): number {
  return summarize(values).medianMs;
}

/** Counted once: a snapshot's stream is always the same. Also fills the caches, so that the first run is not the slow one. */
async function lengthOf(send: readonly string[]): Promise<number> {
  const child = start(send, ["ignore", "pipe", "inherit"]);
  let bytes = 0;
  child.stdout?.on("data", (chunk: Buffer) => (bytes += chunk.length));
  await once(child, "close");
  return bytes;
}

async function rate(bytes: number, run: () => Promise<void>): Promise<number> {
  const before = performance.now();
  await run();
  return bytes / 1e6 / ((performance.now() - before) / 1000);
}

/** The two commands with the ends of one connection as their standard output and input: no JavaScript between them. */
async function bare({ send, receive }: Commands): Promise<void> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const outgoing = connect({ host: "127.0.0.1", port: (server.address() as { port: number }).port });
  await once(outgoing, "connect");
  outgoing.pause();
  const [incoming] = await accepted;
  const receiving = spawn(receive[0] as string, receive.slice(1), { stdio: [incoming, "ignore", "inherit"] });
  const sending = spawn(send[0] as string, send.slice(1), { stdio: ["ignore", outgoing, "inherit"] });
  // Their copies are the only ones left: the end of the one is the end for the other.
  await ended(sending);
  outgoing.end();
  await ended(receiving);
  incoming.destroy();
  outgoing.destroy();
  server.close();
}

async function throughBackupServer(commands: Commands, bytes: number): Promise<{ mbPerS: number; growthMb: number }> {
  const server = fork(process.argv[1] as string, ["--serve", JSON.stringify(commands)]);
  try {
    const [port] = (await once(server, "message")) as [number];
    const client = realBackupClient({ port, password: PASSWORD });
    const memory = watchMemory([process.pid, server.pid as number]);
    const mbPerS = await rate(bytes, async () => {
      await receiveSnapshot({
        client,
        storage: pipeStorage(commands),
        dataset: "bench",
        snapshot: SNAPSHOT,
        signal: new AbortController().signal,
        timers: realTimers,
        log: realLog({ name: "bench", level: "warn", descriptor: 2 }),
        onProgress: ({ done }) => memory.at(done),
      });
    });
    return { mbPerS, growthMb: memory.growthMb(bytes) };
  } finally {
    server.kill("SIGKILL");
    await once(server, "exit");
  }
}

/** The most that both processes hold together in the last half of the stream, over the most in the first quarter. */
function watchMemory(pids: readonly number[]) {
  const samples: { at: number; mb: number }[] = [];
  return {
    at(done: number): void {
      if (done - (samples.at(-1)?.at ?? -Infinity) < 16 << 20) return;
      samples.push({ at: done, mb: pids.reduce((sum, pid) => sum + residentMb(pid), 0) });
    },
    growthMb(total: number): number {
      const most = (from: number, to: number) =>
        Math.max(...samples.filter(({ at }) => at >= from && at < to).map(({ mb }) => mb));
      return most(total / 2, Infinity) - most(0, total / 4);
    },
  };
}

function residentMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}
