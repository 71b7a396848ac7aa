// One peer of a test's shard: its configuration, its real sitter process, and what can be done to it.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PeerReport } from "../../src/status/report.ts";
import {
  describe,
  isAlive,
  killAllIn,
  processesIn,
  type ProcessEntry,
  readProcess,
  signal,
  treeOf,
  waitGone,
} from "./processes.ts";
import type { Host } from "./hosts.ts";
import type { Runtime } from "./runtime.ts";
import { giveAway, runAs } from "./unprivileged.ts";

export interface PeerOptions {
  readonly name: string;
  readonly folder: string;
  readonly port: number;
  readonly runtime: Runtime;
  /** The whole configuration file, but what this file fills in. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: this machine's loopback. */
  readonly host?: Host;
}

/** One life of a sitter's process. */
interface SitterRun {
  mayEnd: boolean;
  ended: string | undefined;
}

export class TestPeer {
  readonly name: string;
  /** Of PostgreSQL; the status service is on the next, the backup server on the one after. */
  readonly port: number;
  readonly ip: string;
  readonly id: string;
  readonly folder: string;
  readonly dataDir: string;
  readonly configFile: string;
  readonly logFile: string;
  readonly #options: PeerOptions;
  #sitter: ChildProcess | undefined;
  #frozen: readonly number[] = [];
  /** Of the sitter started last. */
  #run: SitterRun = { mayEnd: true, ended: undefined };

  constructor(options: PeerOptions) {
    this.#options = options;
    this.name = options.name;
    this.port = options.port;
    this.folder = options.folder;
    this.ip = options.host?.ip ?? "127.0.0.1";
    this.id = `${this.ip}:${options.port}:${options.port + 2}`;
    this.dataDir = join(options.folder, "data");
    this.configFile = join(options.folder, "sitter.json");
    this.logFile = join(options.folder, "sitter.log");
  }

  get sitterPid(): number | undefined {
    const pid = this.#sitter?.pid;
    return pid !== undefined && isAlive(pid) ? pid : undefined;
  }

  /** How the sitter ended though no test had it ended; undefined: it did not. */
  get endedByItself(): string | undefined {
    return this.#run.ended;
  }

  /** Makes folder and configuration file. */
  async prepare(): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o755 });
    giveAway(this.folder);
    await this.configure({});
  }

  /** Rewrites the configuration with these sections merged in; the sitter reads it when it starts or gets SIGHUP. */
  async configure(change: Readonly<Record<string, unknown>>): Promise<void> {
    const merged = mergeSections(this.#options.config, change);
    await writeFile(this.configFile, `${JSON.stringify(merged, undefined, 2)}\n`);
    giveAway(this.configFile);
  }

  startSitter(more: Readonly<Record<string, string>> = {}): void {
    if (this.sitterPid !== undefined) throw new Error(`the sitter of ${this.name} runs already`);
    const { runtime, environment, host } = this.#options;
    const log = openSync(this.logFile, "a");
    giveAway(this.logFile);
    const enter = host?.enter ?? [];
    const command = [runtime.node, join(runtime.folder, "bin/manatee-sitter"), "-f", this.configFile, "-v"];
    const [program = runtime.node, ...args] = [...enter, ...command];
    this.#sitter = spawn(program, args, {
      // Into another host only root goes, and becomes that user on the way.
      ...(enter.length === 0 && runAs().credentials),
      cwd: this.folder,
      env: {
        PATH: process.env["PATH"] ?? "/usr/bin:/bin",
        HOME: this.folder,
        LANG: "C.UTF-8",
        ...environment,
        ...more,
      },
      stdio: ["ignore", log, log],
      detached: true,
    });
    this.#sitter.on("error", (error) =>
      console.error(`the sitter of ${this.name} could not be started: ${error.message}`),
    );
    const run: SitterRun = { mayEnd: false, ended: undefined };
    this.#run = run;
    this.#sitter.on("exit", (code, by) => {
      if (!run.mayEnd) run.ended = `exit status ${code ?? by}`;
    });
    closeSync(log);
  }

  /** SIGTERM; rejects if it is not gone in time. */
  async stopSitter(limitMs = 20_000): Promise<void> {
    const pid = this.sitterPid;
    if (pid === undefined) return;
    this.#run.mayEnd = true;
    signal(pid, "SIGCONT");
    signal(pid, "SIGTERM");
    if (!(await waitGone(pid, limitMs)))
      throw new Error(`the sitter of ${this.name} did not end within ${limitMs} ms of SIGTERM`);
  }

  /** SIGKILL of the sitter alone; PostgreSQL goes on. */
  async killSitter(): Promise<void> {
    const pid = this.sitterPid;
    if (pid === undefined) throw new Error(`the sitter of ${this.name} does not run`);
    this.#run.mayEnd = true;
    signal(pid, "SIGKILL");
    if (!(await waitGone(pid, 5000))) throw new Error(`the sitter of ${this.name} survives SIGKILL`);
  }

  /** The postmaster's pid, by its own file; undefined if it does not run. */
  async postmasterPid(): Promise<number | undefined> {
    const text = await readFile(join(this.dataDir, "postmaster.pid"), "utf8").catch(() => "");
    const pid = Number(text.split("\n")[0]);
    return pid > 0 && readProcess(pid)?.cwd === this.dataDir && isAlive(pid) ? pid : undefined;
  }

  /** All PostgreSQL processes of this peer, orphaned backends, too. */
  postgresProcesses(): readonly ProcessEntry[] {
    return processesIn(this.dataDir).filter(({ cwd }) => cwd === this.dataDir);
  }

  /** Signals the postmaster alone; with SIGKILL, resolves when it is gone. */
  async killPostgres(name: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const pid = await this.postmasterPid();
    if (pid === undefined) throw new Error(`PostgreSQL of ${this.name} does not run`);
    signal(pid, name);
    if (name === "SIGKILL" && !(await waitGone(pid, 5000)))
      throw new Error(`PostgreSQL of ${this.name} survives SIGKILL`);
  }

  /** SIGKILL of sitter and PostgreSQL, all processes at once, as a host's crash is. */
  async crash(): Promise<void> {
    this.#run.mayEnd = true;
    const sitter = this.sitterPid;
    const victims = [...(sitter === undefined ? [] : treeOf(sitter)), ...this.postgresProcesses()];
    for (const { pid } of victims) signal(pid, "SIGKILL");
    await killAllIn(this.folder);
    for (const { pid } of victims)
      if (!(await waitGone(pid, 5000))) throw new Error(`process ${pid} of ${this.name} survives SIGKILL`);
  }

  /** SIGSTOP of sitter (`sitter`), PostgreSQL (`postgres`) or both. Not of an embedded store that it happened to start, which is all peers'. */
  freeze(what: "sitter" | "postgres" | "both" = "both"): void {
    const sitter = this.sitterPid;
    const pids = [
      ...(what !== "postgres" && sitter !== undefined
        ? treeOf(sitter).filter(({ cwd, args }) => cwd !== this.dataDir && !args.some(isStoreProgram))
        : []),
      ...(what === "sitter" ? [] : this.postgresProcesses()),
    ].map(({ pid }) => pid);
    if (pids.length === 0) throw new Error(`nothing of ${this.name} runs that could be frozen`);
    for (const pid of pids) signal(pid, "SIGSTOP");
    this.#frozen = [...this.#frozen, ...pids];
  }

  thaw(): void {
    for (const pid of this.#frozen) signal(pid, "SIGCONT");
    this.#frozen = [];
  }

  /** Takes its data away, and all that its sitter kept, as on a new machine. Nothing of it may run. */
  async empty(): Promise<void> {
    if (this.leftovers().length > 0) throw new Error(`${this.name} still runs: ${this.leftovers().join("; ")}`);
    for (const path of [this.dataDir, `${this.dataDir}.manatee`]) await rm(path, { recursive: true, force: true });
  }

  /** What the sitter says of itself; undefined if it does not answer within the limit. */
  async report(limitMs = 1000): Promise<PeerReport | undefined> {
    try {
      const answer = await fetch(`http://${this.ip}:${this.port + 1}/state`, { signal: AbortSignal.timeout(limitMs) });
      return answer.ok ? ((await answer.json()) as PeerReport) : undefined;
    } catch {
      return undefined;
    }
  }

  /** The last lines of the sitter's log, short. */
  async logTail(lines: number): Promise<string> {
    const text = await readFile(this.logFile, "utf8").catch(() => "(no log)");
    return text.trimEnd().split("\n").slice(-lines).map(shortLogLine).join("\n");
  }

  /** The last lines of PostgreSQL's log that tell of trouble. */
  async serverTrouble(lines: number): Promise<string> {
    const text = await readFile(join(`${this.dataDir}.manatee`, "server.log"), "utf8").catch(() => "");
    const told = text.split("\n").filter((line) => /\b(FATAL|PANIC|ERROR|exited|terminated|invalid)\b/.test(line));
    return told
      .slice(-lines)
      .map((line) => `    ${line.slice(0, 300)}`)
      .join("\n");
  }

  /** Lines of the sitter's log that parse. */
  async logEntries(): Promise<readonly Readonly<Record<string, unknown>>[]> {
    const text = await readFile(this.logFile, "utf8").catch(() => "");
    return text.split("\n").flatMap((line) => {
      try {
        return [JSON.parse(line) as Readonly<Record<string, unknown>>];
      } catch {
        return [];
      }
    });
  }

  /** What still runs in this peer's folder. */
  leftovers(): readonly string[] {
    return processesIn(this.folder).map(describe);
  }
}

const isStoreProgram = (arg: string) => arg.endsWith("coordination/local/server-process.js");

const LEVELS: Readonly<Record<string, string>> = { 10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error" };

function shortLogLine(line: string): string {
  try {
    const {
      time,
      level,
      msg,
      pid: _pid,
      hostname: _hostname,
      name: _name,
      v: _v,
      ...fields
    } = JSON.parse(line) as Record<string, unknown>;
    const clock = new Date(time as number | string).toISOString().slice(11, 23);
    const shown = Object.entries(fields).map(
      ([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
    );
    return `    ${clock} ${LEVELS[String(level)] ?? String(level)} ${String(msg)} ${shown.join(" ")}`.slice(0, 600);
  } catch {
    return `    ${line.slice(0, 600)}`;
  }
}

function mergeSections(
  base: Readonly<Record<string, unknown>>,
  change: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(change)) {
    const before = merged[key];
    merged[key] = isSection(before) && isSection(value) ? mergeSections(before, value) : value;
  }
  return merged;
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
