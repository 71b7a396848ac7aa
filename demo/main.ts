// The demonstration, as somebody who is not root, in one folder. Started by scripts/lib/launch.mjs, which prepares all that it needs before, and
// ends what is left of its processes after.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { commandsToTry } from "./commands.ts";
import { type Options, readOptions } from "./options.ts";
import { tailOf } from "./processes.ts";
import { makeShard, type Peer, type Shard, type StoreChoice } from "./shard.ts";
import { makeShow, type Show } from "./show.ts";
import { check, failover, form, letWrite, type Stage } from "./story.ts";
import { Watch } from "./watch.ts";
import { Writer } from "./writer.ts";
import { startZooKeeper } from "./zookeeper.ts";

const pollMs = 60;
const paintMs = 150;
/** Of the sparkline's columns. */
const intervalMs = 500;
/** A sitter that ended is started again after this. */
const restartMs = 1_000;

const options = readOptions(process.argv.slice(2));
const show = makeShow(options);
let stopping = false;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => stop(signal === "SIGINT" && !options.auto ? 0 : 1));
process.on("disconnect", () => stop(1));
process.on("exit", () => show.end());

try {
  process.exitCode = (await run(options)) ? 0 : 1;
} catch (error) {
  if (!stopping) show.event((error as Error).message, "bad");
  process.exitCode = 1;
}
// What still runs belongs to the folder; the one that started us ends it.
process.exit();

function stop(status: number): void {
  if (!stopping) show.event("ends, and stops all that it started: a few seconds");
  stopping = true;
  process.exit(status);
}

async function run({ folder, postgres, zookeeper, auto, dev }: Options): Promise<boolean> {
  const store = await makeStore(folder, zookeeper);
  const shard = await makeShard({ folder, store, postgres });
  const watch = new Watch(shard.peers);
  const stage: Stage = { shard, watch, show, writer: new Writer(shard.peers, shard.password), supervise: () => true };
  void watch.run(pollMs);
  paint(stage, `${versionOf(postgres)}, ${zookeeper ? "ZooKeeper" : "embedded store"}`);
  try {
    if (dev) return await develop(stage);
    await form(stage);
    supervise(stage);
    await letWrite();
    await failover(stage);
    const whole = await check(stage);
    if (auto || !whole) return whole;
    return await stayUp(stage);
  } catch (error) {
    if (stopping) return false;
    tellLogs(shard, show);
    show.event((error as Error).message, "bad");
    return false;
  }
}

async function makeStore(folder: string, zookeeper: boolean): Promise<StoreChoice> {
  if (!zookeeper) return { kind: "local", directory: join(folder, "store") };
  const started = performance.now();
  const { address } = await startZooKeeper(folder);
  show.event(`ZooKeeper runs at ${address}: ${Math.round(performance.now() - started)} ms`);
  return { kind: "zookeeper", address };
}

function paint({ watch, writer }: Stage, about: string): void {
  const rates: number[] = [];
  let counted = 0;
  setInterval(() => {
    rates.push(writer.acknowledged - counted);
    counted = writer.acknowledged;
    if (rates.length > 120) rates.shift();
  }, intervalMs);
  setInterval(() => {
    const writes =
      writer.acknowledged > 0 ? { acknowledged: writer.acknowledged, longestGapMs: writer.longestGapMs } : undefined;
    show.update({ about, generation: watch.generation(), reports: watch.reports, rates, intervalMs, writes });
  }, paintMs);
}

/** What a service manager does: a sitter that ended is started again. */
function supervise(stage: Stage): void {
  const waiting = new Set<Peer>();
  setInterval(() => {
    for (const peer of stage.shard.peers) {
      if (peer.sitterPid !== undefined || waiting.has(peer) || !stage.supervise(peer)) continue;
      waiting.add(peer);
      setTimeout(() => {
        waiting.delete(peer);
        if (peer.sitterPid !== undefined || !stage.supervise(peer)) return;
        peer.startSitter();
        show.event(`${peer.name}'s sitter had ended, and is started again`);
      }, restartMs);
    }
  }, 200);
}

/** Until Ctrl-C. `k` does it once more. */
async function stayUp(stage: Stage): Promise<boolean> {
  const interactive = process.stdin.isTTY && process.stdout.isTTY;
  keepFooter(stage, `${interactive ? "k: kill the primary again    q or " : ""}Ctrl-C: end it, and leave nothing`);
  if (!interactive) return forever();
  process.stdin.setRawMode(true);
  process.stdin.resume();
  process.on("exit", () => process.stdin.setRawMode(false));
  let busy = false;
  process.stdin.on("data", (keys) => {
    const key = keys.toString("latin1");
    if (key === "\u0003" || key === "q") stop(0);
    if (key !== "k" || busy) return;
    busy = true;
    failover(stage)
      .then(() => check(stage))
      .catch((error: Error) => show.event(error.message, "bad"))
      .finally(() => {
        busy = false;
      });
  });
  return forever();
}

/** `npm run dev`: the shard, writes on it, and new sitters whenever the code has changed. */
async function develop(stage: Stage): Promise<boolean> {
  process.on("message", (message: { kind: string; line?: string }) => {
    if (message.kind === "compile-error") show.event(message.line ?? "", "bad");
    if (message.kind === "code-changed") void restartAll(stage);
  });
  supervise(stage);
  await form(stage);
  keepFooter(
    stage,
    "Logs: NAME/sitter.log below that folder. Sitters are restarted when the code changes. Ctrl-C: end it",
  );
  return forever();
}

/** Commands name the peers that have the roles now. Where output is lines, they are told once. */
function keepFooter({ shard, watch }: Stage, keys: string): void {
  const tell = () => show.footer(["", ...commandsToTry(shard, watch, options.adm), "", `  ${keys}`]);
  tell();
  if (show.live) setInterval(tell, 1_000);
}

async function restartAll({ shard }: Stage): Promise<void> {
  show.event("the code has changed: new sitters, which adopt the PostgreSQL that runs");
  for (const peer of shard.peers) {
    await peer.leaveSitter();
    peer.startSitter();
  }
}

function forever(): Promise<never> {
  return new Promise(() => setInterval(() => undefined, 1 << 30));
}

function versionOf(postgres: string): string {
  const { stdout } = spawnSync(join(postgres, "postgres"), ["--version"], { encoding: "utf8" });
  return /PostgreSQL\)? (\S+)/.exec(stdout)?.[0]?.replace(")", "") ?? "PostgreSQL";
}

function tellLogs({ peers }: Shard, to: Show): void {
  for (const peer of peers) {
    to.event(`the end of ${peer.name}'s log:`, "heading");
    for (const line of tailOf(peer.log, 6)) to.event(readable(line));
  }
}

/** A line of the log for people: what, by which rule, why. */
function readable(line: string): string {
  try {
    const { time, level, msg, rule, because, waitingOn, error, reason, hint } = JSON.parse(line) as Record<
      string,
      string | undefined
    >;
    const parts = [rule, because, waitingOn && `waits for ${waitingOn}`, reason, error, hint].filter(
      (part) => part !== undefined,
    );
    return `${time?.slice(11, 23)} ${level} ${msg}${parts.length > 0 ? `: ${parts.join("; ")}` : ""}`;
  } catch {
    return line;
  }
}
