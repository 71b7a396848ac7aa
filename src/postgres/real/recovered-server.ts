// A server on a clone of a snapshot that has recovered to where its WAL ends, and begun a timeline of its own: it takes writes, and its WAL can't be taken for the shard's. It is nobody's
// peer: it bears no mark, no slots, no upstream.

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { explainError, ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { PostgresConfig } from "../../config/types.ts";
import { pause } from "../../world/waiting.ts";
import { findBinaries } from "./binaries.ts";
import { cloneWorkFolder, type KeptClonesOptions } from "./clones.ts";
import { readControlFile } from "./control-file.ts";
import { flushFileSystem, readIfThere } from "./durable.ts";
import { IsolatedServer } from "./isolated-server.ts";
import { linksOutside, snapshotLeadsOut } from "./links-outside.ts";
import { MARK_FILE } from "./mark.ts";
import { dropBelongings } from "./staged.ts";
import { dropUnreachableHistories } from "./start.ts";

export interface RecoveredServerOptions extends Pick<KeptClonesOptions, "clock" | "timers"> {
  /** Where the clone is mounted. */
  readonly folder: string;
  readonly config: PostgresConfig;
  readonly port: number;
  readonly hba: readonly string[];
  /** Beside those that keep it apart; recovery goes to the end of the WAL where they name no target. */
  readonly settings: Readonly<Record<string, string>>;
  /** Whether it goes on when this process ends. */
  readonly detached: boolean;
  readonly limitMs: Ms;
  readonly onStep: (text: string) => void;
}

const POLL_MS: Ms = 50;
const SQL_LIMIT_MS: Ms = 20_000;
/** What it takes of the memory that the shard's server was given. */
const SHARED_BUFFERS = "128MB";

/** Resolves when it takes writes; otherwise it has ended. Errors: `CLONE_NOT_STARTED`, `SNAPSHOT_LEADS_OUT`, `PG_BINARIES_MISSING`. */
export async function startRecovered(options: RecoveredServerOptions): Promise<IsolatedServer> {
  const { folder, config, port, hba, settings, detached, limitMs, onStep, clock, timers } = options;
  const outside = await linksOutside(folder);
  if (outside !== undefined) throw snapshotLeadsOut(outside);
  const major = Number.parseInt((await readIfThere(join(folder, "PG_VERSION"))) ?? "", 10);
  if (!Number.isInteger(major)) throw notStarted("there is no PG_VERSION in the snapshot");
  const { postgres } = await findBinaries({ binDir: config.binDir, major });
  await dropBelongings(folder);
  await dropUnreachableHistories(folder, await readControlFile(folder));
  for (const name of ["standby.signal", MARK_FILE]) await rm(join(folder, name), { force: true });
  // Recovery that ends in a new timeline.
  await writeFile(join(folder, "recovery.signal"), "", { mode: 0o600, flush: true });
  await flushFileSystem(folder);
  const server = new IsolatedServer({
    folder,
    workFolder: cloneWorkFolder(folder),
    port,
    superuser: config.superuser,
    hba,
    settings: inOrder(settings),
    before: [],
    detached,
    applicationName: "manatee-clone",
    clock,
    timers,
  });
  try {
    const began = clock.now();
    onStep("recovers");
    await server.start(postgres);
    while (!(await takesWrites(server))) {
      if (server.hasEnded()) throw notStarted((await server.lastWords()).said);
      if (clock.now() - began > limitMs) throw notStarted(`it has not recovered after ${limitMs / 1000} s`);
      await pause(timers, POLL_MS);
    }
    return server;
  } catch (error) {
    await server.kill();
    throw error;
  }
}

const SETTINGS: Readonly<Record<string, string>> = {
  shared_buffers: SHARED_BUFFERS,
  // There is an end of the WAL, and nobody to ask for more.
  restore_command: "exit 1",
  recovery_target: "",
  recovery_target_lsn: "",
  recovery_target_name: "",
  recovery_target_time: "",
  recovery_target_xid: "",
  recovery_target_timeline: "latest",
  recovery_target_action: "promote",
  // A standby that answers would have to have as many of everything as the primary.
  hot_standby: "off",
};

/** A target comes after those that are empty: once there is one PostgreSQL takes no other, not even an empty one. */
function inOrder(settings: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const others = Object.entries(SETTINGS).filter(([name]) => !(name in settings));
  return Object.fromEntries([...others, ...Object.entries(settings)]);
}

/** Also false where it has ended. */
async function takesWrites(server: IsolatedServer): Promise<boolean> {
  if (!(await server.accepts().catch(sessionRefused))) return false;
  const [row] = await server.sql("template1", "select pg_is_in_recovery() as recovers", { limitMs: SQL_LIMIT_MS });
  return row?.["recovers"] === "f";
}

function sessionRefused(error: unknown): never {
  throw notStarted(`no session can be opened: ${explainError(error)}`);
}

function notStarted(what: string): ManateeError {
  return new ManateeError({
    code: "CLONE_NOT_STARTED",
    message: `PostgreSQL does not come up on the clone: ${what}`,
    remedy: "operator",
    hint: "Nothing of it is left. Take another snapshot (one that is verified), or look at this machine's memory and disk; a long recovery wants a longer --timeout.",
  });
}
