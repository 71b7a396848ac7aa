// Shows that a data directory can be restored, by restoring it: a server is started on it alone (no network, no archive, no replication), recovers, and is checked. The data
// directory is a clone that is thrown away afterwards.

import { type ChildProcess, spawn } from "node:child_process";
import { access, mkdir, open, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { VerificationConfig } from "../../config/types.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { findBinaries } from "./binaries.ts";
import { pause } from "./context.ts";
import { errorCode, readIfThere } from "./durable.ts";
import { cleanEnvironment } from "./environment.ts";
import { endServersOn } from "./leftovers.ts";
import { linksOutside } from "./links-outside.ts";
import { isAliveNow, signalProcess } from "./processes.ts";
import { runProgram } from "./programs.ts";
import { quoteIdentifier, quoteLiteral, type SqlRow, withConnection } from "./sql.ts";

export interface VerifyDataOptions {
  readonly folder: string;
  /** Made anew: the server's socket, files and log. Its path is short (a socket's is 107 bytes at most). */
  readonly workFolder: string;
  readonly config: VerificationConfig;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly timers: Timers;
}

export interface DataVerdict {
  readonly passed: boolean;
  /** What was checked; or what is wrong. */
  readonly text: string;
}

/** Of the socket's file only: nothing listens on TCP. */
const PORT = 5432;
const POLL_MS: Ms = 100;
const SQL_LIMIT_MS: Ms = 3_600_000;
const STOP_LIMIT_MS: Ms = 120_000;
/** A killed process is gone in milliseconds, unless it hangs in the kernel. */
const KILLED_LIMIT_MS: Ms = 20_000;
/** What a server says that is short of something itself: no word about the data. */
const OUR_TROUBLE =
  /No space left|could not (map|create|reserve|allocate).*(shared memory|memory)|Cannot allocate memory|out of memory|could not create lock file|could not create Unix socket/i;

/** Wrong data is a verdict. @throws `SNAPSHOT_NOT_VERIFIED` where it could not be found out, `SNAPSHOT_LEADS_OUT`, `PG_BINARIES_MISSING` */
export async function verifyData(options: VerifyDataOptions): Promise<DataVerdict> {
  const { folder, workFolder } = options;
  await rm(workFolder, { recursive: true, force: true });
  await mkdir(workFolder, { mode: 0o700 });
  const verification = new DataVerification(options);
  try {
    return await verification.run();
  } finally {
    await verification.end();
    await endServersOn(folder);
    await rm(workFolder, { recursive: true, force: true });
  }
}

class DataVerification {
  readonly #options: VerifyDataOptions;
  readonly #checked: string[] = [];
  readonly #until: Ms;
  #server: ChildProcess | undefined;
  /** null: by a signal. */
  #exitStatus: Promise<number | null> = Promise.resolve(null);

  constructor(options: VerifyDataOptions) {
    this.#options = options;
    this.#until = options.clock.now() + options.config.limitMs;
  }

  async run(): Promise<DataVerdict> {
    const { folder, config } = this.#options;
    const major = Number.parseInt((await readIfThere(join(folder, "PG_VERSION"))) ?? "", 10);
    if (!Number.isInteger(major)) return { passed: false, text: "there is no PG_VERSION in it" };
    const outside = await linksOutside(folder);
    if (outside !== undefined) throw leadsOut(outside);
    const { postgres, version } = await findBinaries({ binDir: config.binDir, major });
    for (const name of ["postmaster.pid", "standby.signal", "recovery.signal"])
      await rm(join(folder, name), { force: true });
    await this.#start(postgres);
    const wrong = (await this.#recovers(version)) ?? (await this.#answers()) ?? (await this.#stops());
    if (wrong !== undefined) return { passed: false, text: wrong };
    const unsound = await this.#checksums(postgres);
    return unsound === undefined ? { passed: true, text: this.#checked.join(", ") } : { passed: false, text: unsound };
  }

  /** The server, also one that is so young that it does not show on what it works. */
  async end(): Promise<void> {
    const pid = this.#server?.pid;
    if (pid === undefined || this.#hasEnded()) return;
    signalProcess(pid, "SIGKILL");
    const { clock, timers } = this.#options;
    const limit = clock.now() + KILLED_LIMIT_MS;
    while (!this.#hasEnded() && clock.now() < limit) await pause(timers, POLL_MS);
  }

  async #start(postgres: string): Promise<void> {
    const { folder, workFolder, config } = this.#options;
    const hba = join(workFolder, "pg_hba.conf");
    const empty = join(workFolder, "empty.conf");
    // The socket's folder is ours alone.
    await writeFile(hba, "local all all trust\n", { mode: 0o600 });
    await writeFile(empty, "", { mode: 0o600 });
    const settings = {
      config_file: empty,
      hba_file: hba,
      ident_file: empty,
      data_directory: folder,
      listen_addresses: "",
      port: String(PORT),
      unix_socket_directories: workFolder,
      external_pid_file: "",
      archive_mode: "off",
      max_wal_senders: "0",
      synchronous_standby_names: "",
      primary_conninfo: "",
      restore_command: "",
      shared_preload_libraries: "",
      // As many as any server has that comes here: fewer would refuse what was prepared.
      max_prepared_transactions: "1000",
      autovacuum: "off",
      logging_collector: "off",
      log_min_messages: "warning",
      lc_messages: "C",
      ...Object.fromEntries(config.options.map((option) => option.split(/=(.*)/s, 2) as [string, string])),
    };
    const args = ["-D", folder, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
    const idle = await idleClass();
    const log = await open(join(workFolder, "server.log"), "a", 0o600);
    try {
      const [program, ...before] = [...idle, postgres] as const;
      const child = spawn(program, [...before, ...args], {
        cwd: workFolder,
        env: cleanEnvironment(),
        stdio: ["ignore", log.fd, log.fd],
      });
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

  /** undefined: it does, and lets sessions in. */
  async #recovers(version: string): Promise<string | undefined> {
    for (;;) {
      this.#demandTime("it recovers");
      const ended = this.#hasEnded();
      if (ended) return `it does not start: ${await this.#lastWords()}`;
      if (await this.#accepts()) break;
      await pause(this.#options.timers, POLL_MS);
    }
    this.#checked.push(`started with ${version}`);
    return undefined;
  }

  async #accepts(): Promise<boolean> {
    try {
      await this.#sql("template1", "select 1");
      return true;
    } catch (error) {
      const code = errorCode(error) ?? "";
      // Recovering, or between its start and its socket; it may also have ended, which shows at the next look.
      if (code === "57P03" || !/^[0-9A-Z]{5}$/.test(code)) return false;
      throw notVerified(`no session can be opened: ${(error as Error).message}`);
    }
  }

  /** The operator's statements, and indexes. */
  async #answers(): Promise<string | undefined> {
    for (const statement of this.#options.config.sql) {
      this.#demandTime("the operator's statements");
      try {
        const [row] = await this.#sql("postgres", statement);
        if (row && Object.values(row)[0] === "f") return `the statement says no: ${statement}`;
      } catch (error) {
        if (this.#isOurTrouble(error)) throw error;
        return `the statement fails (${(error as Error).message}): ${statement}`;
      }
    }
    if (this.#options.config.sql.length > 0) this.#checked.push(`${this.#options.config.sql.length} statements`);
    return this.#options.config.amcheck ? this.#indexes() : undefined;
  }

  async #indexes(): Promise<string | undefined> {
    const databases = await this.#sql("template1", "select datname from pg_database where datallowconn order by 1");
    let count = 0;
    for (const { datname } of databases) {
      const database = datname ?? "";
      const [there] = await this.#sql(database, "select 1 as is from pg_available_extensions where name = 'amcheck'");
      if (!there) return undefined;
      await this.#sql(database, "create extension if not exists amcheck");
      const indexes = await this.#sql(
        database,
        `select format('%I.%I', n.nspname, c.relname) as name from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
         join pg_am a on a.oid = c.relam where a.amname = 'btree' and i.indisready and i.indisvalid and c.relpersistence <> 't' and c.relkind = 'i'`,
      );
      const [schema] = await this.#sql(
        database,
        "select n.nspname as name from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'amcheck'",
      );
      const check = `${quoteIdentifier(schema?.["name"] ?? "public")}.bt_index_check`;
      for (const { name } of indexes) {
        this.#demandTime(`the indexes of ${database}`);
        try {
          await this.#sql(database, `select ${check}(${quoteLiteral(name ?? "")}::regclass)`);
        } catch (error) {
          if (this.#isOurTrouble(error)) throw error;
          return `the index ${name} of ${database}: ${(error as Error).message}`;
        }
        count++;
      }
    }
    this.#checked.push(`${count} indexes`);
    return undefined;
  }

  async #stops(): Promise<string | undefined> {
    const { clock, timers } = this.#options;
    const limit = clock.now() + STOP_LIMIT_MS;
    this.#server?.kill("SIGINT");
    while (!this.#hasEnded()) {
      if (clock.now() > limit) throw notVerified("the server does not stop");
      await pause(timers, POLL_MS);
    }
    // A process can be seen to be gone before it is told how it ended.
    return (await this.#exitStatus) === 0 ? undefined : `it does not shut down: ${await this.#lastWords()}`;
  }

  async #checksums(postgres: string): Promise<string | undefined> {
    const { folder, workFolder, signal, config } = this.#options;
    const program = await programBeside(postgres, "pg_checksums");
    if (program === undefined) return undefined;
    const limited = AbortSignal.any([signal, limitOf(this.#options.timers, this.#until - this.#options.clock.now())]);
    const idle = await idleClass();
    const [first, ...before] = [...idle, program] as const;
    try {
      const said = await runProgram({
        program: first,
        folder: workFolder,
        args: [...before, "--check", "-D", folder],
        signal: limited,
        failure: { code: "SNAPSHOT_UNSOUND", what: "pg_checksums", remedy: "operator", hint: "Look at the storage." },
      });
      this.#checked.push(`checksums of ${/Blocks scanned: +(\d+)/.exec(said)?.[1] ?? "all"} blocks`);
      return undefined;
    } catch (error) {
      if (limited.aborted) throw notVerified(`it took longer than ${config.limitMs} ms, or was ended`);
      const { message } = error as Error;
      if (/checksums are not enabled/.test(message)) return undefined;
      if (/checksum verification failed|Bad checksums/.test(message)) return message;
      throw notVerified(message);
    }
  }

  #sql(database: string, text: string): Promise<readonly SqlRow[]> {
    const { workFolder, config, timers, signal } = this.#options;
    const target = {
      host: workFolder,
      port: PORT,
      user: config.superuser,
      database,
      applicationName: "manatee-verify",
    };
    return withConnection(target, { limitMs: SQL_LIMIT_MS, timers, signal }, ({ query }) => query(text));
  }

  #hasEnded(): boolean {
    const server = this.#server;
    return (
      server?.pid === undefined || server.exitCode !== null || server.signalCode !== null || !isAliveNow(server.pid)
    );
  }

  async #lastWords(): Promise<string> {
    const text = await readFile(join(this.#options.workFolder, "server.log"), "utf8").catch(() => "");
    const lines = text.trim().split("\n");
    const words = lines.filter((line) => /FATAL|PANIC|ERROR/.test(line)).slice(-2);
    const said = (words.length > 0 ? words : lines.slice(-2)).join(" | ");
    if (OUR_TROUBLE.test(text)) throw notVerified(said);
    return said;
  }

  #isOurTrouble(error: unknown): boolean {
    return (
      this.#options.signal.aborted ||
      OUR_TROUBLE.test((error as Error).message) ||
      errorCode(error) === "PG_UNRESPONSIVE"
    );
  }

  #demandTime(what: string): void {
    const { signal, clock, config } = this.#options;
    signal.throwIfAborted();
    if (clock.now() > this.#until) throw notVerified(`it took longer than ${config.limitMs} ms, up to where ${what}`);
  }
}

function limitOf(timers: Timers, ms: Ms): AbortSignal {
  const abort = new AbortController();
  timers.after(Math.max(0, ms), () => abort.abort());
  return abort.signal;
}

/** Beside that one, or beside what its link leads to. */
async function programBeside(postgres: string, name: string): Promise<string | undefined> {
  for (const folder of [dirname(postgres), dirname(await realpath(postgres))])
    if (await isThere(join(folder, name))) return join(folder, name);
  return undefined;
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** What goes before a program so that it takes only what nobody else wants. Each ends in the program's own process. */
async function idleClass(): Promise<readonly string[]> {
  const nice = ["/usr/bin/nice", "-n", "19"];
  const ionice = ["/usr/bin/ionice", "-c", "3"];
  return [...((await isThere("/usr/bin/ionice")) ? ionice : []), ...((await isThere("/usr/bin/nice")) ? nice : [])];
}

function notVerified(what: string): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_NOT_VERIFIED",
    message: `whether the snapshot can be restored was not found out: ${what}`,
    remedy: "retry",
    hint: "It is tried again at the next time; look at this machine's memory, disk and PostgreSQL, or raise verification.limit.",
  });
}

/** A server on the clone would write there, into what the peer's own works with. */
function leadsOut(name: string): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_LEADS_OUT",
    message: `${name} leads out of the snapshot, to what it does not hold`,
    remedy: "operator",
    hint: `Move what ${name} leads to into the data directory, or set verification.enabled to false: without it such a snapshot can't be restored.`,
  });
}
