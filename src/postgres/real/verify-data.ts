// Shows that a data directory can be restored, by restoring it: a server is started on it alone (no network, no archive, no replication), recovers, and is checked. The data
// directory is a clone that is thrown away afterwards.

import { access, realpath, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { VerificationConfig } from "../../config/types.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { findBinaries } from "./binaries.ts";
import { pause } from "../../world/waiting.ts";
import { errorCode, readIfThere } from "./durable.ts";
import { IsolatedServer, isOurTrouble } from "./isolated-server.ts";
import { endServersOn } from "./leftovers.ts";
import { linksOutside, snapshotLeadsOut } from "./links-outside.ts";
import { runProgram } from "./programs.ts";
import { quoteIdentifier, quoteLiteral, type SqlRow } from "./sql.ts";

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

/** Wrong data is a verdict. @throws `SNAPSHOT_NOT_VERIFIED` where it could not be found out, `SNAPSHOT_LEADS_OUT`, `PG_BINARIES_MISSING` */
export async function verifyData(options: VerifyDataOptions): Promise<DataVerdict> {
  const { folder, workFolder } = options;
  const verification = new DataVerification(options, await idleClass());
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
  readonly #idle: readonly string[];
  readonly #server: IsolatedServer;

  /** `idle`: what goes before a program so that it takes only what nobody else wants. */
  constructor(options: VerifyDataOptions, idle: readonly string[]) {
    this.#options = options;
    this.#idle = idle;
    const { folder, workFolder, config, clock, timers } = options;
    this.#until = clock.now() + config.limitMs;
    this.#server = new IsolatedServer({
      folder,
      workFolder,
      port: PORT,
      superuser: config.superuser,
      // The socket's folder is ours alone.
      hba: ["local all all trust"],
      settings: {
        autovacuum: "off",
        ...Object.fromEntries(config.options.map((option) => option.split(/=(.*)/s, 2) as [string, string])),
      },
      before: idle,
      detached: false,
      applicationName: "manatee-verify",
      clock,
      timers,
    });
  }

  async run(): Promise<DataVerdict> {
    const { folder, config } = this.#options;
    const major = Number.parseInt((await readIfThere(join(folder, "PG_VERSION"))) ?? "", 10);
    if (!Number.isInteger(major)) return { passed: false, text: "there is no PG_VERSION in it" };
    const outside = await linksOutside(folder);
    if (outside !== undefined) throw snapshotLeadsOut(outside);
    const { postgres, version } = await findBinaries({ binDir: config.binDir, major });
    for (const name of ["postmaster.pid", "standby.signal", "recovery.signal"])
      await rm(join(folder, name), { force: true });
    await this.#server.start(postgres);
    const wrong = (await this.#recovers(version)) ?? (await this.#answers()) ?? (await this.#stops());
    if (wrong !== undefined) return { passed: false, text: wrong };
    const unsound = await this.#checksums(postgres);
    return unsound === undefined ? { passed: true, text: this.#checked.join(", ") } : { passed: false, text: unsound };
  }

  end(): Promise<void> {
    return this.#server.kill();
  }

  /** undefined: it does, and lets sessions in. */
  async #recovers(version: string): Promise<string | undefined> {
    for (;;) {
      this.#demandTime("it recovers");
      const ended = this.#server.hasEnded();
      if (ended) return `it does not start: ${await this.#lastWords()}`;
      if (await this.#accepts()) break;
      await pause(this.#options.timers, POLL_MS);
    }
    this.#checked.push(`started with ${version}`);
    return undefined;
  }

  async #accepts(): Promise<boolean> {
    try {
      return await this.#server.accepts(this.#options.signal);
    } catch (error) {
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
    this.#server.signal("SIGINT");
    while (!this.#server.hasEnded()) {
      if (clock.now() > limit) throw notVerified("the server does not stop");
      await pause(timers, POLL_MS);
    }
    // A process can be seen to be gone before it is told how it ended.
    return (await this.#server.exitStatus) === 0 ? undefined : `it does not shut down: ${await this.#lastWords()}`;
  }

  async #checksums(postgres: string): Promise<string | undefined> {
    const { folder, workFolder, signal, config } = this.#options;
    const program = await programBeside(postgres, "pg_checksums");
    if (program === undefined) return undefined;
    const limited = AbortSignal.any([signal, limitOf(this.#options.timers, this.#until - this.#options.clock.now())]);
    const [first, ...before] = [...this.#idle, program] as const;
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
    return this.#server.sql(database, text, { limitMs: SQL_LIMIT_MS, signal: this.#options.signal });
  }

  async #lastWords(): Promise<string> {
    const { said, isOurs } = await this.#server.lastWords();
    if (isOurs) throw notVerified(said);
    return said;
  }

  #isOurTrouble(error: unknown): boolean {
    return (
      this.#options.signal.aborted || isOurTrouble((error as Error).message) || errorCode(error) === "PG_UNRESPONSIVE"
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
