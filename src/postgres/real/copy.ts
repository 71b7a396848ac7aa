// R1: replaces the content of the data directory, by a copy of another peer's or by pg_rewind.

import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import type { Bytes } from "../../base/units.ts";
import type { DataMark, DataObservation } from "../../cluster/observation.ts";
import type { PeerAddress } from "../../cluster/state.ts";
import { amountInWords } from "../amount.ts";
import { demandServing, finishCopiedFolder, takeBaseBackup } from "./base-backup.ts";
import { configFileContent, connInfo, endpointOf, reloadableContent, singleUserOptions } from "./configuration.ts";
import type { Context } from "./context.ts";
import { readControlFile } from "./control-file.ts";
import { newestTimeline, observeData } from "./data-directory.ts";
import {
  flushFileSystem,
  flushFolder,
  makePrivateFolder,
  removeDurably,
  removeTree,
  writeIfDifferent,
} from "./durable.ts";
import { demandSpace } from "./forks.ts";
import { endLeftovers } from "./leftovers.ts";
import type { JobHandle } from "./jobs.ts";
import { MARK_FILE, markMissing } from "./mark.ts";
import { demandReplicationPassword, writePassFile } from "./passwords.ts";
import { runProgram } from "./programs.ts";
import { type SqlTarget, withConnection } from "./sql.ts";

/**
 * A base backup in place of what is there. Marked as incomplete before anything is removed, until all is durable. `decided`: what lay there when that was decided.
 * Resolves with what came. Errors: `PG_DATA_CHANGED`, `PG_COPY_FAILED`, `PG_NO_SPACE`, `PG_VERSION_DIFFERS`.
 */
export async function copyByBaseBackup(
  context: Context,
  options: { from: PeerAddress; incarnation: string; decided: DataObservation; job: JobHandle },
): Promise<Bytes> {
  const { from, decided, job } = options;
  const { places, config, timers, clock } = context;
  demandStopped(context);
  const password = await demandReplicationPassword(config.replicationPasswordFile, from.id);
  const { major } = await context.binaries();
  await makePrivateFolder(places.own);
  await endLeftovers(places);
  await makePrivateFolder(places.dataDir);
  // Nothing here is touched before the source is seen to serve: it may be the last copy that goes otherwise.
  const source = sourceTarget(context, from, password);
  await demandServing(source, { major, limitMs: config.probeLimitMs, timers });
  demandUnchanged(places.dataDir, { decided, found: await observeData(places, major) });
  await context.mark.change((known) => ({ ...markOfCopy(context, options, known), incomplete: true }));
  // Of a rewind that was cut short the mark still stood beside the folder.
  await context.mark.settle({ incomplete: true });
  await removeDurably(places.initdbJournal);
  for (const name of await readdir(places.dataDir))
    if (name !== MARK_FILE) await removeTree(join(places.dataDir, name));
  const began = clock.now();
  let bytes: Bytes = 0;
  await takeBaseBackup({
    source,
    dataDir: places.dataDir,
    major,
    signal: job.signal,
    timers,
    onProgress: ({ received, total }) => {
      bytes = received;
      job.progress(amountInWords({ done: received, expected: total, elapsedMs: clock.now() - began }));
    },
    demandSpace: (bytes) => demandSpace(context, places.dataDir, bytes),
  });
  await finishCopiedFolder(places.dataDir);
  await flushFileSystem(places.dataDir);
  await context.mark.settle({ incomplete: false });
  return bytes;
}

/** Of content that comes from that peer, under a new incarnation. What this peer has promised and seen stays. */
export function markOfCopy(
  { shard }: Context,
  { from, incarnation }: { from: PeerAddress; incarnation: string },
  known: DataMark | undefined,
): DataMark {
  const { claim, lastDocument } = known ?? {};
  return { shard, incarnation, claim, founding: false, incomplete: false, source: from.id, lastDocument };
}

/** pg_rewind against a running peer. Errors: `PG_REWIND_MISSING`, `PG_REWIND_FAILED`: then a copy leads on. */
export async function rewindTo(context: Context, from: PeerAddress, job: JobHandle): Promise<void> {
  const { places, config } = context;
  demandStopped(context);
  const { rewind, major } = await context.binaries();
  if (rewind === undefined) throw rewindMissing((await context.binaries()).binDir);
  const password = await demandReplicationPassword(config.replicationPasswordFile, from.id);
  await writePassFile(places, { user: config.replicationUser, password });
  await endLeftovers(places);
  // Nothing is touched before the source is seen to serve, on another timeline: on one and the same pg_rewind does nothing, and says that all is well.
  const source = sourceTarget(context, from, password);
  const { timeline } = await demandServing(source, { major, limitMs: config.probeLimitMs, timers: context.timers });
  if (newestTimeline(await readControlFile(places.dataDir)) === timeline) throw rewindUseless(timeline);
  // Crash recovery writes on the old timeline already: cut short from here on, what is here is copied anew, and not taken for what it was.
  await context.mark.protect();
  await context.mark.change((mark) => {
    if (mark === undefined) throw markMissing(places);
    return { ...mark, source: from.id };
  });
  await shutDownCleanly(context, job.signal);
  await checkpointSource(context, from, password, job.signal);
  let useless = false;
  await runProgram({
    program: rewind,
    folder: places.own,
    args: [
      "--target-pgdata",
      places.dataDir,
      "--source-server",
      `${connInfo(config, context.self, places, from)} dbname='postgres'`,
      "--no-ensure-shutdown",
      "--progress",
    ],
    signal: job.signal,
    environment: { PGPASSFILE: places.passFile },
    onLine: (line) => {
      useless ||= line.includes("no rewind required");
      if (/\d+\/\d+ kB/.test(line)) job.progress(line.trim());
    },
    failure: {
      code: "PG_REWIND_FAILED",
      what: "pg_rewind",
      remedy: "reobserve",
      hint: "Nothing has to be done: the peer is copied afresh instead.",
    },
  });
  // By the control files, which on a standby that has followed a promotion can still show the timeline before.
  if (useless) throw rewindUseless(timeline);
  await rm(join(places.dataDir, "recovery.signal"), { force: true });
  await finishCopiedFolder(places.dataDir);
  await flushFileSystem(places.dataDir);
  await context.mark.settle({ incomplete: false });
}

/**
 * pg_rewind wants a target that was shut down cleanly. Crash recovery in single-user mode ends with a checkpoint on the own, forked timeline, which
 * the rewind throws away; standby.signal must be gone for it ("standby mode is not supported by single-user servers").
 */
async function shutDownCleanly(context: Context, signal: AbortSignal): Promise<void> {
  const { places, config } = context;
  const { state } = await readControlFile(places.dataDir);
  if (state === "shut down" || state === "shut down in recovery") return;
  await rm(join(places.dataDir, "standby.signal"), { force: true });
  await flushFolder(places.dataDir);
  await writeIfDifferent(places.reloadable, reloadableContent([]));
  await writeIfDifferent(places.configFile, configFileContent(config, places));
  const { postgres } = await context.binaries();
  await runProgram({
    program: postgres,
    folder: places.own,
    args: ["--single", "-D", places.dataDir, ...singleUserOptions(places), "template1"],
    signal,
    failure: {
      code: "PG_REWIND_FAILED",
      what: "crash recovery before the rewind",
      remedy: "reobserve",
      hint: "Nothing has to be done: the peer is copied afresh instead.",
    },
  });
}

/** Before 16, pg_rewind reads a just-promoted source's old timeline from its control file until there was a checkpoint. Tried; the role may do so from 15 on. */
async function checkpointSource(
  context: Context,
  from: PeerAddress,
  password: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    await withConnection(
      sourceTarget(context, from, password),
      { limitMs: context.config.stopLimitMs, timers: context.timers, signal },
      ({ query }) => query("checkpoint"),
    );
  } catch (error) {
    context.log.debug("no checkpoint on the source before the rewind", { reason: String(error) });
  }
}

export function sourceTarget(
  { config, self }: Pick<Context, "config" | "self">,
  from: PeerAddress,
  password: string,
): SqlTarget {
  const { host, port } = endpointOf(from);
  // Not by the peer's own name: whoever streams under it would count as the peer.
  return {
    host,
    port: Number(port),
    user: config.replicationUser,
    database: "postgres",
    password,
    applicationName: `manatee copy ${self.id}`,
  };
}

/** A volume that was mounted meanwhile, or a database that somebody has brought back, was not what may go. */
function demandUnchanged(
  dataDir: string,
  { decided, found }: { decided: DataObservation; found: DataObservation },
): void {
  const before = contentOf(decided);
  const now = contentOf(found);
  if (now === before) return;
  throw new ManateeError({
    code: "PG_DATA_CHANGED",
    message: `${dataDir} held ${before} when it was to be replaced by a copy, and holds ${now}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: nothing was removed, and the peer decides afresh.",
  });
}

function contentOf(data: DataObservation): string {
  if (data.kind === "none") return "nothing";
  const name = data.mark === undefined ? "without a mark" : `of incarnation ${data.mark.incarnation}`;
  return data.kind === "unusable"
    ? `what can't be used (${data.code}), ${name}`
    : `the database ${data.systemIdentifier}, ${name}`;
}

export function demandStopped(context: Context): void {
  if (context.postmaster.process.kind === "stopped") return;
  throw new ManateeError({
    code: "PG_RUNNING",
    message: "the content of the data directory can't be replaced while the server runs",
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer decides afresh.",
  });
}

function rewindUseless(timeline: number): ManateeError {
  return new ManateeError({
    code: "PG_REWIND_FAILED",
    message: `pg_rewind does nothing between two servers on one timeline (${timeline})`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer is copied afresh instead.",
  });
}

function rewindMissing(binDir: string): ManateeError {
  return new ManateeError({
    code: "PG_REWIND_MISSING",
    message: `there is no pg_rewind in ${binDir}`,
    remedy: "reobserve",
    hint: "Nothing has to be done: the peer is copied afresh instead; install PostgreSQL's full server package to save time.",
  });
}
