// Starts the server as a standby or as a primary.

import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { formatPoint } from "../../base/lineage.ts";
import type { PostgresAction } from "../../cluster/decision.ts";
import { pause } from "../../world/waiting.ts";
import type { ReplicationPeer } from "../port.ts";
import type { Context } from "./context.ts";
import { type ControlFile, readControlFile } from "./control-file.ts";
import { newestTimeline } from "./data-directory.ts";
import { errorCode, flushFolder, isMissing, makePrivateFolder } from "./durable.ts";
import { endLeftovers } from "./leftovers.ts";
import { serverArguments, writeSettingsFiles } from "./settings.ts";
import { CANNOT_CONNECT_NOW, TOO_MANY_CONNECTIONS } from "./sql.ts";
import { removeTimeline, removeUnreachableHistories } from "./timeline-history.ts";
import { cutWal } from "./wal-files.ts";

export type StartAction = Extract<PostgresAction, { kind: "start" }>;

/** After this time a server that still recovers is no news: the observation says `starting`, and settings can be changed. */
const SETTLED_MS = 2000;
const POLL_MS = 15;
/** A path of a Unix socket: sun_path, with `/.s.PGSQL.65535.lock`. */
const SOCKET_PATH_MAX = 107;

/** Resolves when it accepts connections, or recovers for so long that others should see it. Errors: `PG_START_FAILED` and of its files. */
export async function startServer(
  context: Context,
  action: StartAction,
  {
    peers,
    signal,
    lastWords,
  }: { peers: readonly ReplicationPeer[]; signal: AbortSignal; lastWords: () => Promise<string> },
): Promise<void> {
  if ((await context.postmaster.look()).kind !== "stopped")
    throw refused("a server runs already", "Stop the server on this data directory first.");
  // A startup process outlives its postmaster for a moment, and goes on with a promotion: what is looked at and prepared here would change under us.
  await endLeftovers(context.places);
  await prepareSocketFolder(context);
  await prepareSignals(context, action);
  context.operatorSettings.release();
  await writeSettingsFiles(context, action.settings, { peers, inForce: undefined });
  const { postgres } = await context.binaries();
  await context.postmaster.start(postgres, await serverArguments(context, signal));
  const startedAt = context.clock.now();
  for (;;) {
    signal.throwIfAborted();
    if (context.postmaster.process.kind !== "running") throw endedAtOnce(await lastWords(), context);
    const answer = await tryConnect(context);
    if (answer === "accepts") return;
    const waited = context.clock.now() - startedAt;
    if (answer === "recovers" && waited > SETTLED_MS) return;
    if (waited > context.config.startLimitMs)
      throw refused(
        `it does not answer ${waited} ms after its start`,
        "Look at the load of the machine and at the server's log.",
      );
    await pause(context.timers, POLL_MS);
  }
}

async function tryConnect(context: Context): Promise<"accepts" | "recovers" | "silent"> {
  try {
    await context.sql((session) => session.query("select 1"));
    return "accepts";
  } catch (error) {
    if (errorCode(error) === CANNOT_CONNECT_NOW) return "recovers";
    // It accepts, only not us.
    return errorCode(error) === TOO_MANY_CONNECTIONS ? "accepts" : "silent";
  }
}

async function prepareSignals({ places }: Context, action: StartAction): Promise<void> {
  const standbySignal = join(places.dataDir, "standby.signal");
  // A leftover of somebody's restore would end recovery at its target.
  await rm(join(places.dataDir, "recovery.signal"), { force: true });
  const control = await readControlFile(places.dataDir);
  if (action.as === "primary") {
    if (await exists(standbySignal))
      throw refused("as a primary, but standby.signal is there", "Nothing has to be done: the peer decides afresh.");
    return;
  }
  if (action.unfinishedTimeline !== undefined) {
    if (newestTimeline(control) >= action.unfinishedTimeline)
      throw refused(
        `timeline ${action.unfinishedTimeline} has begun: it is no unfinished promotion`,
        "Nothing has to be done: the peer decides afresh.",
      );
    await removeTimeline(places.dataDir, action.unfinishedTimeline);
  }
  if (action.cutAfter) {
    if (control.minRecoveryPoint > action.cutAfter.lsn)
      throw refused(
        `WAL behind ${formatPoint(action.cutAfter)} was replayed: it can't be taken away`,
        "Nothing has to be done: the peer decides afresh.",
      );
    await cutWal(join(places.dataDir, "pg_wal"), action.cutAfter);
  }
  await dropUnreachableHistories(places.dataDir, control);
  // Durable before the server starts: without it, it would write on the old timeline.
  await writeFile(standbySignal, "", { mode: 0o600, flush: true });
  await flushFolder(places.dataDir);
}

/** By what the control file says: see {@link removeUnreachableHistories}. */
export async function dropUnreachableHistories(dataDir: string, control: ControlFile): Promise<void> {
  const points = [{ timeline: control.checkpointTimeline, lsn: control.checkpoint }];
  if (control.minRecoveryPoint > 0n)
    points.push({ timeline: control.minRecoveryTimeline, lsn: control.minRecoveryPoint });
  await removeUnreachableHistories(dataDir, { own: newestTimeline(control), points });
}

/** Superuser without a password comes in by this socket: nobody else may reach it. */
async function prepareSocketFolder({ places, config }: Context): Promise<void> {
  const socket = join(places.socketDir, `.s.PGSQL.${config.port}`);
  if (Buffer.byteLength(socket) > SOCKET_PATH_MAX)
    throw new ManateeError({
      code: "PG_SOCKET_FOLDER",
      message: `the path of the Unix socket ${socket} is longer than ${SOCKET_PATH_MAX} bytes`,
      remedy: "operator",
      hint: "Configure a shorter folder for the socket.",
    });
  await makePrivateFolder(places.socketDir);
  const { mode, uid } = await stat(places.socketDir);
  if ((mode & 0o077) !== 0 || uid !== process.geteuid?.())
    throw new ManateeError({
      code: "PG_SOCKET_FOLDER",
      message: `the folder ${places.socketDir} has mode ${(mode & 0o777).toString(8)} and owner ${uid}: others could come in as superuser`,
      remedy: "operator",
      hint: `Give ${places.socketDir} to the sitter's user alone (chmod 700), or configure another folder.`,
    });
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

function endedAtOnce(lastWords: string, { config: { host, port }, places }: Context): ManateeError {
  const hint = /could not create (any TCP\/IP sockets|listen socket)/.test(lastWords)
    ? `Set ip (or postgres.listenAddress) to an address of this machine, or see what listens on port ${port} of ${host}: ${places.serverLog} says which.`
    : `Read the end of ${places.serverLog}.`;
  return refused(`it ended at once: ${lastWords}`, hint);
}

function refused(what: string, hint: string): ManateeError {
  return new ManateeError({
    code: "PG_START_FAILED",
    message: `the server does not start: ${what}`,
    remedy: "reobserve",
    hint,
  });
}
