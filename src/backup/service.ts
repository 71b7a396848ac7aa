// The routes. Everything but the list of routes and the API's description demands a proof that a peer of the shard asks.

import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type * as z from "zod";
import { ManateeError } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import type { Ms } from "../base/units.ts";
import type { PeerCheck } from "../peers/credential.ts";
import type { Capabilities, DatasetName, Snapshot, Storage } from "../storage/port.ts";
import type { Crypto, Log, Timers, Transport } from "../world/port.ts";
import { openApi } from "./openapi.ts";
import { problemOf, statusOf } from "./problem.ts";
import { answerWith, pull } from "./pull.ts";
import { jobOf, push, type PushTarget } from "./push.ts";
import type { Transfer } from "./transfer.ts";
import type { Transfers } from "./transfers.ts";
import {
  type jobCreatedSchema,
  jobRequestSchema,
  PATHS,
  type SnapshotEntry,
  type SnapshotList,
  type TransferView,
} from "./wire.ts";

const BODY_BYTES_MAX = 10_000;

export interface BackupServiceOptions {
  readonly storage: Storage;
  readonly dataset: DatasetName;
  readonly transfers: Transfers;
  readonly check: PeerCheck;
  /** Takes a snapshot that is begun after the call. */
  readonly takeNow: () => Promise<Snapshot>;
  /** Of the snapshots there are, the one that is sent to who doesn't name one. */
  readonly newestOf: (snapshots: readonly Snapshot[]) => Snapshot | undefined;
  /** Addresses of the shard's peers. */
  readonly peers: () => Promise<ReadonlySet<string>>;
  /** The original's two routes for everybody, and to every address. */
  readonly openToAll: boolean;
  /** Of a receiver that takes nothing. */
  readonly stallLimitMs: Ms;
  readonly aliveMs?: Ms;
  readonly transport: Transport;
  readonly crypto: Crypto;
  readonly timers: Timers;
  readonly log: Log;
}

export const ROUTES = {
  "GET /": "this list",
  "GET /openapi.json": "the description of all routes (OpenAPI)",
  "GET /snapshots": "the snapshots, the queue and the transfers",
  "POST /snapshots": "takes a snapshot now, and answers when it is there",
  "GET /snapshots/{name}/stream":
    "a snapshot's stream; ?from=BASE: what changed since; ?resume=TOKEN: from where the receiver broke off",
  "POST /backup/": "sends the newest snapshot to host and port, as the original does",
  "GET /backup/{uuid}": "how far that is",
  "DELETE /backup/{uuid}": "cancels a transfer of either kind",
} as const;

export function backupService(options: BackupServiceOptions): Hono {
  const app = new Hono();
  const jobs = new Map<string, PushTarget>();
  app.use(bodyLimit({ maxSize: BODY_BYTES_MAX }));
  app.get("/", (c) => c.json({ routes: ROUTES }));
  app.get("/openapi.json", (c) => c.json(openApi()));
  app.get("/snapshots", async (c) => {
    await authenticate(c, options);
    return c.json(await listOf(options));
  });
  app.post("/snapshots", async (c) => {
    await authenticate(c, options);
    return c.json(entryOf(await options.takeNow()) satisfies SnapshotEntry, 201);
  });
  app.get("/snapshots/:name/stream", (c) => stream(c, options));
  app.post("/backup/", (c) => startPush(c, options, jobs));
  app.get("/backup/:uuid", async (c) => {
    if (!options.openToAll) await authenticate(c, options);
    const uuid = c.req.param("uuid");
    const transfer = options.transfers.find(uuid);
    const target = jobs.get(uuid);
    if (!transfer || !target) throw noJob(uuid);
    return c.json(jobOf(transfer, target), transfer.state === "failed" ? 500 : 200);
  });
  app.delete("/backup/:uuid", async (c) => {
    await authenticate(c, options);
    return c.json((await cancel(c.req.param("uuid"), options)) satisfies TransferView);
  });
  app.notFound((c) => c.json({ ...problemOf(noRoute(c)), routes: ROUTES }, 404));
  app.onError((error, c) => {
    const problem = problemOf(error);
    options.log.info("request refused", { method: c.req.method, path: c.req.path, client: clientOf(c), ...problem });
    return c.json(problem, statusOf(problem));
  });
  return app;
}

/** The key with which the answer is authenticated. */
async function authenticate(c: Context, { check }: BackupServiceOptions): Promise<Uint8Array> {
  const { pathname, search } = new URL(c.req.url);
  const body = c.req.method === "POST" ? await c.req.text() : "";
  return check.check({ method: c.req.method, path: pathname + search, body }, c.req.header("authorization"));
}

async function listOf({ storage, dataset, transfers }: BackupServiceOptions): Promise<SnapshotList> {
  const { format, incremental, resume, atomic } = await storage.capabilities();
  const snapshots = await storage.snapshots(dataset);
  const { used, free } = await storage.space(dataset);
  return {
    dataset,
    format,
    incremental,
    resume,
    atomic,
    space: { usedBytes: used, freeBytes: free },
    snapshots: snapshots.map(entryOf),
    queue: transfers.counts(),
    transfers: transfers.views(),
  };
}

function entryOf(snapshot: Snapshot): SnapshotEntry {
  const { name, guid, createdWallMs, properties, holds, ownBytes, referencedBytes } = snapshot;
  return {
    name,
    guid,
    createdWallMs,
    properties,
    holds: [...holds],
    ownBytes: ownBytes ?? null,
    referencedBytes: referencedBytes ?? null,
  };
}

async function stream(c: Context, options: BackupServiceOptions): Promise<Response> {
  const { storage, dataset, transfers, timers, crypto, stallLimitMs, aliveMs } = options;
  const key = await authenticate(c, options);
  // Hono answers HEAD by GET's handler, and would leave the body, with its place in the queue, lying.
  if (c.req.method !== "GET") throw badRequest("a stream is had by GET alone");
  const abilities = await storage.capabilities();
  const snapshots = await storage.snapshots(dataset);
  const snapshot = named(snapshots, c.req.param("name") ?? "", dataset);
  const fromName = c.req.query("from");
  const resumeToken = c.req.query("resume");
  demandAble(abilities, { fromName, resumeToken });
  const from = fromName === undefined ? undefined : named(snapshots, fromName, dataset);
  const connection = connectionOf(c);
  if (!connection) throw badRequest("a stream is had over a connection alone");
  const transfer = transfers.enter({ kind: "pull", client: clientOf(c), snapshot, from, resumeToken });
  void pull(answerWith(connection), {
    transfer,
    seal: { key, crypto },
    format: abilities.format,
    timers,
    stallLimitMs,
    ...(aliveMs === undefined ? {} : { aliveMs }),
  });
  return RESPONSE_ALREADY_SENT;
}

function named(snapshots: readonly Snapshot[], name: string, dataset: DatasetName): Snapshot {
  const found = snapshots.find((snapshot) => snapshot.name === name);
  if (found) return found;
  throw new ManateeError({
    code: "BACKUP_NO_SNAPSHOT",
    message: `${dataset} has no snapshot ${JSON.stringify(name.slice(0, 200))}`,
    remedy: "reobserve",
    hint: "Ask for the list of snapshots again, and take one of those.",
  });
}

function demandAble(
  { format, incremental, resume }: Capabilities,
  { fromName, resumeToken }: { fromName: string | undefined; resumeToken: string | undefined },
): void {
  if (fromName !== undefined && !incremental) throw badRequest(`the storage (${format}) sends whole snapshots only`);
  if (resumeToken !== undefined && !resume)
    throw badRequest(`the storage (${format}) can't go on in the middle of a stream`);
}

async function startPush(c: Context, options: BackupServiceOptions, jobs: Map<string, PushTarget>): Promise<Response> {
  const { storage, dataset, transfers, newestOf, openToAll, transport, stallLimitMs } = options;
  if (!openToAll) await authenticate(c, options);
  const parsed = jobRequestSchema.safeParse(parseJson(await c.req.text()));
  if (!parsed.success) throw badRequest("host, port and dataset are needed, as JSON");
  const target = parsed.data;
  if (!openToAll && !(await options.peers()).has(target.host)) throw notAPeer(target.host);
  const snapshot = newestOf(await storage.snapshots(dataset));
  if (!snapshot) throw nothingToSend(dataset);
  const transfer = transfers.enter({ kind: "push", client: target.host, snapshot });
  const { uuid } = transfer.options;
  for (const known of jobs.keys()) if (!transfers.find(known)) jobs.delete(known);
  jobs.set(uuid, target);
  void push(transfer, target, { transport, stallLimitMs });
  return c.json({ jobid: uuid, jobPath: PATHS.job(uuid) } satisfies z.output<typeof jobCreatedSchema>);
}

async function cancel(uuid: string, { transfers }: BackupServiceOptions): Promise<TransferView> {
  const transfer: Transfer | undefined = transfers.find(uuid);
  if (!transfer) throw noJob(uuid);
  const reason = new ManateeError({
    code: "BACKUP_CANCELLED",
    message: "the transfer was cancelled",
    remedy: "operator",
    hint: "See the log of the backup server for who cancelled it; ask anew if it is still wanted.",
  });
  transfer.cancel(reason);
  await transfer.end(reason);
  return transfer.view();
}

function clientOf(c: Context): string {
  return connectionOf(c)?.incoming.socket.remoteAddress ?? "unknown";
}

/** undefined: called without a server. */
function connectionOf(c: Context): HttpBindings | undefined {
  return (c.env as HttpBindings | undefined)?.outgoing ? (c.env as HttpBindings) : undefined;
}

function badRequest(message: string): ManateeError {
  return new ManateeError({
    code: "BACKUP_BAD_REQUEST",
    message,
    remedy: "operator",
    hint: "See GET /openapi.json for what each route takes.",
  });
}

function notAPeer(host: string): ManateeError {
  return new ManateeError({
    code: "BACKUP_NOT_A_PEER",
    message: `${JSON.stringify(host)} is not the address of a peer of this shard`,
    remedy: "operator",
    hint: "Name the ip of a peer that manatee-adm peers shows; backupServerCfg.openToAll admits every address, as the original did.",
  });
}

function noJob(uuid: string): ManateeError {
  return new ManateeError({
    code: "BACKUP_NO_JOB",
    message: `there is no job ${JSON.stringify(uuid.slice(0, 64))}`,
    remedy: "reobserve",
    hint: "Ask anew: jobs are forgotten when the server starts again, and a hundred later.",
  });
}

function nothingToSend(dataset: DatasetName): ManateeError {
  return new ManateeError({
    code: "BACKUP_NO_SNAPSHOT",
    message: `${dataset} has no snapshot that could be sent`,
    remedy: "retry",
    hint: "See whether manatee-snapshotter runs on this machine, or take one with manatee-adm snapshot now.",
  });
}

function noRoute(c: Context): ManateeError {
  return new ManateeError({
    code: "BACKUP_BAD_REQUEST",
    message: `no such route: ${c.req.method} ${c.req.path}`,
    remedy: "operator",
    hint: "See GET /openapi.json for the routes that there are.",
  });
}
