// A server on a copy of the shard's data that has nothing to do with the shard: it replicates to nobody and from nobody, archives nothing, loads no library that would act by itself,
// and is reached only as whoever starts it says. Nothing that came along with the data (postgresql.auto.conf, pg_hba.conf) outranks that.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Ms } from "../../base/units.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { pause } from "../../world/waiting.ts";
import { errorCode } from "./durable.ts";
import { cleanEnvironment } from "./environment.ts";
import { isAliveNow, signalProcess } from "./processes.ts";
import { type SqlRow, withConnection } from "./sql.ts";

export interface IsolatedServerOptions {
  /** The data directory. */
  readonly folder: string;
  /** Made anew: the server's socket, files and log. Its path is short (a socket's is 107 bytes at most). */
  readonly workFolder: string;
  readonly port: number;
  readonly superuser: string;
  /** The lines of its pg_hba.conf. */
  readonly hba: readonly string[];
  /** Beside those that isolate it; one that is given here outranks those. */
  readonly settings: Readonly<Record<string, string>>;
  /** What goes before the program. It ends in the program's own process. */
  readonly before: readonly string[];
  /** Whether it outlives this process. */
  readonly detached: boolean;
  /** Of our own sessions. */
  readonly applicationName: string;
  readonly clock: Clock;
  readonly timers: Timers;
}

const POLL_MS: Ms = 100;
const ACCEPT_LIMIT_MS: Ms = 20_000;
/** A killed process is gone in milliseconds, unless it hangs in the kernel. */
const KILLED_LIMIT_MS: Ms = 20_000;
/** What a server says that is short of something itself: no word about the data. */
const OUR_TROUBLE =
  /No space left|could not (map|create|reserve|allocate).*(shared memory|memory)|Cannot allocate memory|out of memory|could not create lock file|could not create Unix socket/i;

/** On the command line: data can bring settings along, and a superuser can make some (ALTER SYSTEM). */
const ISOLATED: Readonly<Record<string, string>> = {
  listen_addresses: "",
  external_pid_file: "",
  ssl: "off",
  archive_mode: "off",
  archive_cleanup_command: "",
  recovery_end_command: "",
  restore_command: "",
  primary_conninfo: "",
  primary_slot_name: "",
  synchronous_standby_names: "",
  max_wal_senders: "0",
  // A subscription that the data holds would take from the publisher what the shard's own waits for.
  max_logical_replication_workers: "0",
  // Such as one that runs jobs at their time.
  shared_preload_libraries: "",
  // As many as any server has that comes here: fewer would refuse what was prepared.
  max_prepared_transactions: "1000",
  logging_collector: "off",
  log_destination: "stderr",
  log_min_messages: "warning",
  lc_messages: "C",
};

export class IsolatedServer {
  readonly #options: IsolatedServerOptions;
  #server: ChildProcess | undefined;
  /** null: by a signal. */
  #exitStatus: Promise<number | null> = Promise.resolve(null);

  constructor(options: IsolatedServerOptions) {
    this.#options = options;
  }

  /** Of the server that was started; null: by a signal. */
  get exitStatus(): Promise<number | null> {
    return this.#exitStatus;
  }

  async start(postgres: string): Promise<void> {
    const { folder, workFolder, port, hba, before, detached } = this.#options;
    await rm(workFolder, { recursive: true, force: true });
    // The socket's folder is ours alone.
    await mkdir(workFolder, { mode: 0o700 });
    const hbaFile = join(workFolder, "pg_hba.conf");
    const empty = join(workFolder, "empty.conf");
    await writeFile(hbaFile, `${hba.join("\n")}\n`, { mode: 0o600 });
    await writeFile(empty, "", { mode: 0o600 });
    const settings = {
      config_file: empty,
      hba_file: hbaFile,
      ident_file: empty,
      data_directory: folder,
      port: String(port),
      unix_socket_directories: workFolder,
      ...ISOLATED,
      ...this.#options.settings,
    };
    const args = ["-D", folder, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
    const log = await open(join(workFolder, "server.log"), "a", 0o600);
    try {
      const [program, ...rest] = [...before, postgres] as const;
      const child = spawn(program, [...rest, ...args], {
        cwd: workFolder,
        env: cleanEnvironment(),
        stdio: ["ignore", log.fd, log.fd],
        detached,
      });
      if (detached) child.unref();
      const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
      await new Promise<void>((resolve, reject) => {
        child.once("spawn", resolve);
        child.once("error", reject);
      });
      this.#server = child;
      this.#exitStatus = exited;
    } finally {
      await log.close();
    }
  }

  hasEnded(): boolean {
    const server = this.#server;
    return (
      server?.pid === undefined || server.exitCode !== null || server.signalCode !== null || !isAliveNow(server.pid)
    );
  }

  /** Whether it lets sessions in. Rejects where that can't be told. */
  async accepts(signal?: AbortSignal): Promise<boolean> {
    try {
      await this.sql("template1", "select 1", { limitMs: ACCEPT_LIMIT_MS, ...(signal && { signal }) });
      return true;
    } catch (error) {
      const code = errorCode(error) ?? "";
      // Recovering, or between its start and its socket; it may also have ended, which shows at the next look.
      if (code === "57P03" || !/^[0-9A-Z]{5}$/.test(code)) return false;
      throw error;
    }
  }

  /** As the superuser. */
  sql(
    database: string,
    text: string,
    { limitMs, signal }: { limitMs: Ms; signal?: AbortSignal },
  ): Promise<readonly SqlRow[]> {
    const { workFolder, port, superuser, applicationName, timers } = this.#options;
    const target = { host: workFolder, port, user: superuser, database, applicationName };
    return withConnection(target, { limitMs, timers, ...(signal && { signal }) }, ({ query }) => query(text));
  }

  signal(signal: NodeJS.Signals): void {
    const pid = this.#server?.pid;
    if (pid !== undefined && !this.hasEnded()) signalProcess(pid, signal);
  }

  /** Also one that is so young that it does not show on what it works. */
  async kill(): Promise<void> {
    const { clock, timers } = this.#options;
    this.signal("SIGKILL");
    const limit = clock.now() + KILLED_LIMIT_MS;
    while (!this.hasEnded() && clock.now() < limit) await pause(timers, POLL_MS);
  }

  /** What it said last. `isOurs`: it is short of something itself. */
  async lastWords(): Promise<{ readonly said: string; readonly isOurs: boolean }> {
    const text = await readFile(join(this.#options.workFolder, "server.log"), "utf8").catch(() => "");
    const lines = text.trim().split("\n");
    const words = lines.filter((line) => /FATAL|PANIC|ERROR/.test(line)).slice(-2);
    return { said: (words.length > 0 ? words : lines.slice(-2)).join(" | "), isOurs: isOurTrouble(text) };
  }
}

export function isOurTrouble(text: string): boolean {
  return OUR_TROUBLE.test(text);
}
