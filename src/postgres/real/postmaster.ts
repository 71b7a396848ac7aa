// The server's process: spawned or adopted, watched, stopped. Knows nothing of SQL.

import { spawn } from "node:child_process";
import { open, realpath, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { waitUntil } from "./context.ts";
import { readIfThere } from "./durable.ts";
import { cleanEnvironment } from "./environment.ts";
import type { Places } from "./places.ts";
import {
  commandLine,
  isAlive,
  isAliveNow,
  isPostgres,
  postgresProcessesOn,
  processState,
  signalProcess,
  workingDirectory,
} from "./processes.ts";

/** How soon the death of a server that is not our child is seen. */
const ADOPTED_POLL_MS = 25;
/** An immediate stop leaves backends this long to end, before they are killed. */
const IMMEDIATE_LIMIT_MS = 2000;
/** A killed process is gone at once, unless it hangs in the kernel (frozen storage). */
const KILLED_LIMIT_MS = 5000;
const POLL_MS = 5;

export type ServerProcess =
  | { readonly kind: "stopped"; readonly since: Ms; readonly how: "not-started" | "stopped" | "exited" }
  | { readonly kind: "running"; readonly since: Ms; readonly pid: number; readonly adopted: boolean }
  /** Somebody else's postmaster on our data directory. */
  | { readonly kind: "foreign"; readonly since: Ms; readonly pid: number };

export class Postmaster {
  readonly #places: Places;
  readonly #port: number;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #onChange: () => void;
  #process: ServerProcess;
  #stopping = false;
  #endWatch: () => void = () => undefined;

  constructor({
    places,
    port,
    clock,
    timers,
    onChange,
  }: { places: Places; port: number; clock: Clock; timers: Timers; onChange: () => void }) {
    this.#places = places;
    this.#port = port;
    this.#clock = clock;
    this.#timers = timers;
    this.#onChange = onChange;
    this.#process = { kind: "stopped", since: clock.now(), how: "not-started" };
  }

  /** As last known; {@link look} finds a server that was started before. */
  get process(): ServerProcess {
    return this.#process;
  }

  /** Adopts the server that runs on the data directory, if there is one that is not known yet. */
  async look(): Promise<ServerProcess> {
    if (this.#process.kind === "running") {
      if (!this.#process.adopted || (await isAlive(this.#process.pid))) return this.#process;
      this.#ended(this.#process.pid);
    }
    const pid = await this.#postmasterPid();
    if (this.#process.kind === "running") return this.#process;
    if (pid === undefined) {
      if (this.#process.kind === "foreign")
        this.#process = { kind: "stopped", since: this.#clock.now(), how: "stopped" };
      return this.#process;
    }
    const ours = (await commandLine(pid)).includes(`config_file=${this.#places.configFile}`);
    if (!ours) {
      if (this.#process.kind !== "foreign") this.#process = { kind: "foreign", since: this.#clock.now(), pid };
      return this.#process;
    }
    this.#process = { kind: "running", since: this.#clock.now(), pid, adopted: true };
    this.#watchAdopted(pid);
    return this.#process;
  }

  /** Starts it detached: it outlives the sitter. What orphans of an earlier server there are is ended first. */
  async start(postgres: string, args: readonly string[]): Promise<void> {
    await this.#killAll();
    if ((await this.#postmasterPid()) !== undefined) await this.#killAll();
    const socket = join(this.#places.socketDir, `.s.PGSQL.${this.#port}`);
    // In another pid namespace (a container that shares the folder) it shows as no process, and PostgreSQL's own locks, which name pids, don't tell either.
    if (await isListening(socket)) throw runsElsewhere(this.#places.dataDir, socket);
    // A pid file that names a process of somebody else's by now would make the start refuse.
    await rm(join(this.#places.dataDir, "postmaster.pid"), { force: true });
    // So would the socket's lock file, while the process it names is a zombie that nobody has reaped. The folder is ours alone, and no server is left.
    await Promise.all([socket, `${socket}.lock`].map((path) => rm(path, { force: true })));
    // Append mode: the log can be cut while the server holds it open.
    const log = await open(this.#places.serverLog, "a", 0o600);
    try {
      const child = spawn(postgres, args, {
        detached: true,
        cwd: this.#places.own,
        env: cleanEnvironment(),
        stdio: ["ignore", log.fd, log.fd],
      });
      const pid = await new Promise<number>((resolve, reject) => {
        child.once("spawn", () => resolve(child.pid as number));
        child.once("error", reject);
      });
      this.#stopping = false;
      this.#process = { kind: "running", since: this.#clock.now(), pid, adopted: false };
      child.once("exit", () => this.#ended(pid));
      if (child.exitCode !== null || child.signalCode !== null) this.#ended(pid);
      child.unref();
    } finally {
      await log.close();
    }
  }

  /** SIGHUP. */
  reload(): void {
    if (this.#process.kind === "running") signalProcess(this.#process.pid, "SIGHUP");
  }

  /** A postmaster that is stopped by a signal answers on open connections, and takes no orders. */
  async isFrozen(): Promise<boolean> {
    if (this.#process.kind === "stopped") return false;
    const state = await processState(this.#process.pid);
    return state === "T" || state === "t";
  }

  /**
   * `fast` within the limit; then, or where the postmaster is frozen, by force. Resolves when no process of it is left, orphans
   * included. Errors: `PG_STOP_FAILED` (a process that even SIGKILL does not end).
   */
  async stop(mode: "fast" | "immediate", limitMs: Ms): Promise<void> {
    const current = await this.look();
    if (current.kind !== "stopped") {
      const { pid } = current;
      this.#stopping = true;
      const frozen = await this.isFrozen();
      if (mode === "fast" && !frozen && signalProcess(pid, "SIGINT")) await this.#waitForEnd([pid], limitMs);
      if (!frozen && (await isAlive(pid)) && signalProcess(pid, "SIGQUIT"))
        await this.#waitForEnd([pid], IMMEDIATE_LIMIT_MS);
      if (await isAlive(pid)) signalProcess(pid, "SIGKILL");
    }
    await this.#killAll();
    if (current.kind !== "stopped") this.#ended(current.pid);
    if (this.#process.kind === "stopped") this.#process = { ...this.#process, how: "stopped" };
  }

  /** Watches no longer; the server goes on. */
  release(): void {
    this.#endWatch();
  }

  /**
   * Kills whatever PostgreSQL process works on the data directory: backends of a postmaster that was killed go on, and the next start
   * would be refused as long as they hold the shared memory.
   */
  async #killAll(): Promise<void> {
    const dataDir = await realpath(this.#places.dataDir).catch(() => this.#places.dataDir);
    const giveUpAt = this.#clock.now() + KILLED_LIMIT_MS;
    for (;;) {
      const left = await postgresProcessesOn(dataDir);
      if (left.length === 0) return;
      if (this.#clock.now() > giveUpAt)
        throw new ManateeError({
          code: "PG_STOP_FAILED",
          message: `processes ${left.join(", ")} on ${dataDir} did not end when killed`,
          remedy: "operator",
          hint: "Look at the storage under the data directory: a process that can't be killed waits for it; restart the machine.",
        });
      for (const pid of left) signalProcess(pid, "SIGKILL");
      await this.#waitForEnd(left, POLL_MS * 10);
    }
  }

  async #waitForEnd(pids: readonly number[], limitMs: Ms): Promise<void> {
    const wait = { clock: this.#clock, timers: this.#timers };
    await waitUntil(wait, { limitMs, everyMs: POLL_MS }, async () => {
      const alive = await Promise.all(pids.map((pid) => isAlive(pid)));
      return !alive.includes(true);
    });
  }

  #ended(pid: number): void {
    if (this.#process.kind === "stopped" || this.#process.pid !== pid) return;
    this.#endWatch();
    this.#process = { kind: "stopped", since: this.#clock.now(), how: this.#stopping ? "stopped" : "exited" };
    this.#stopping = false;
    this.#onChange();
  }

  #watchAdopted(pid: number): void {
    this.#endWatch();
    const poll = () => {
      if (isAliveNow(pid)) this.#endWatch = this.#timers.after(ADOPTED_POLL_MS, poll);
      else this.#ended(pid);
    };
    this.#endWatch = this.#timers.after(ADOPTED_POLL_MS, poll);
  }

  /** By postmaster.pid, if that process is really the postmaster of this directory, and not one that got its number since. */
  async #postmasterPid(): Promise<number | undefined> {
    let text: string | undefined;
    try {
      text = await readIfThere(join(this.#places.dataDir, "postmaster.pid"));
    } catch {
      // The folder is closed to us, or its disk fails: what is wrong with the data is told by who looks at them.
      return this.#postmasterByProcesses();
    }
    const pid = Number(text?.split("\n")[0]);
    if (!Number.isInteger(pid) || pid <= 1 || !(await isAlive(pid)) || !(await isPostgres(pid))) return undefined;
    if ((await workingDirectory(pid)) !== (await realpath(this.#places.dataDir))) return undefined;
    return pid;
  }

  /** Only a postmaster's arguments name the file; its children write over theirs. */
  async #postmasterByProcesses(): Promise<number | undefined> {
    const dataDir = await realpath(this.#places.dataDir).catch(() => this.#places.dataDir);
    for (const pid of await postgresProcessesOn(dataDir))
      if ((await commandLine(pid)).includes(`config_file=${this.#places.configFile}`)) return pid;
    return undefined;
  }
}

/** Also where it is frozen, or has no room for one more: the kernel refuses only where nobody has it open. */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", ({ code }: NodeJS.ErrnoException) => resolve(code === "EAGAIN"));
  });
}

function runsElsewhere(dataDir: string, socket: string): ManateeError {
  return new ManateeError({
    code: "PG_RUNS_ELSEWHERE",
    message: `a server listens on ${socket}, and is no process that is seen from here: two on ${dataDir} would destroy it`,
    remedy: "operator",
    hint: "Stop the PostgreSQL that was left running in another container (or on the host) with the same data directory.",
  });
}
