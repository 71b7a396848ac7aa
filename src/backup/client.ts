// Asks a peer's backup server: which snapshots there are, for one now, and for a snapshot's stream. Which snapshot to take is the caller's choice, and so is what
// becomes of the stream (receive.ts puts it into a storage). One connection a call.

import type * as z from "zod";
import { ManateeError } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { leftMsOf } from "../base/progress.ts";
import type { Ms } from "../base/units.ts";
import type { PeerCredential } from "../peers/credential.ts";
import type { Clock, Crypto, HttpStream, Timers, TlsTrust, Transport } from "../world/port.ts";
import { demandWithin } from "../world/waiting.ts";
import { jsonOf, readFrames } from "./frames.ts";
import type { TransferProgress } from "./progress.ts";
import {
  beginSchema,
  endSchema,
  listSchema,
  PATHS,
  problemSchema,
  type SnapshotEntry,
  type SnapshotList,
  snapshotSchema,
  STREAM_PROTOCOL,
  waitSchema,
} from "./wire.ts";

const CONNECT_LIMIT_MS = 5_000;
/** The server says something every few seconds, also while it waits (ALIVE_MS). */
const SILENCE_LIMIT_MS = 30_000;
/** A snapshot waits for the storage, and for the sitter's answer. */
const TAKE_LIMIT_MS = 120_000;
/** A list of ten thousand snapshots is a few megabytes. */
const ANSWER_BYTES_MAX = 32_000_000;

export interface BackupClientOptions {
  readonly host: string;
  readonly port: number;
  /** undefined: plain TCP. */
  readonly tls?: TlsTrust | undefined;
  readonly credential: PeerCredential;
  readonly transport: Transport;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Of a server that says nothing, in the middle of an answer as well. */
  readonly silenceLimitMs?: Ms;
}

export interface FetchOptions {
  /** As `list` told it; the stream of another snapshot of that name is refused. */
  readonly snapshot: { readonly name: string; readonly guid: string };
  /** Only what changed since: a snapshot that the server and the receiver have. */
  readonly from?: { readonly name: string; readonly guid: string } | undefined;
  /** Of the receiver's storage: goes on where it broke off. */
  readonly resumeToken?: string | undefined;
  /** Cancels it: the connection is closed, the iteration throws. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

/**
 * Every call rejects with a ManateeError: `BACKUP_UNREACHABLE`, `BACKUP_BROKEN_OFF`, `BACKUP_CORRUPT`, `BACKUP_OTHER_STREAM`, `BACKUP_BAD_ANSWER`, what the
 * credential throws, or the server's own reason under its code (`BACKUP_QUEUE_FULL`, `BACKUP_NO_SNAPSHOT`, `SNAPSHOT_NOT_ATOMIC`, `PEER_CREDENTIAL_WRONG`, `STORAGE_…`).
 */
export interface BackupClient {
  list(options: { signal: AbortSignal }): Promise<SnapshotList>;
  /** One that was begun after this call. It resolves when the snapshot is there, with its facts among its properties. */
  takeNow(options: { signal: AbortSignal }): Promise<SnapshotEntry>;
  /** The storage's stream, each byte checked before it comes. Ends only where all of it came; throws otherwise. To leave it early cancels it. */
  readonly fetch: (options: FetchOptions) => AsyncIterable<Uint8Array>;
}

export function backupClient(options: BackupClientOptions): BackupClient {
  return {
    list: async ({ signal }) => answerOf(options, { method: "GET", path: PATHS.snapshots, signal }, listSchema),
    takeNow: async ({ signal }) =>
      answerOf(options, { method: "POST", path: PATHS.snapshots, signal, limitMs: TAKE_LIMIT_MS }, snapshotSchema),
    fetch: (asked) => fetchStream(options, asked),
  };
}

interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly signal: AbortSignal;
  readonly limitMs?: Ms;
  readonly upgrade?: string;
}

async function answerOf<T extends z.ZodType>(
  options: BackupClientOptions,
  call: Call,
  schema: T,
): Promise<z.output<T>> {
  const ending = endingWith(call.signal);
  try {
    const { answer } = await open(options, { ...call, signal: ending.signal });
    const parsed = schema.safeParse(parseJson(await textOf(options, answer)));
    if (!parsed.success) throw badAnswer(options, `${call.method} ${call.path} with something else`);
    return parsed.data;
  } finally {
    ending.end();
  }
}

async function* fetchStream(options: BackupClientOptions, asked: FetchOptions): AsyncGenerator<Uint8Array> {
  const { clock, crypto } = options;
  const ending = endingWith(asked.signal);
  let startedMs = clock.now();
  let done = 0;
  let expected: number | undefined;
  const tell = (position: number) => {
    const elapsedMs = clock.now() - startedMs;
    asked.onProgress?.({ done, expected, elapsedMs, position, leftMs: leftMsOf({ done, expected, elapsedMs }) });
  };
  try {
    const { answer, answerKey } = await open(options, {
      method: "GET",
      path: streamPath(asked),
      signal: ending.signal,
      upgrade: STREAM_PROTOCOL,
    });
    const body = unsilent(options, answer.body, ending.end);
    for await (const frame of readFrames(body, { key: answerKey, crypto })) {
      if (frame.kind === "data") {
        done += frame.bytes;
        tell(0);
        yield* frame.parts;
        continue;
      }
      const value = jsonOf(frame);
      if (frame.kind === "wait") tell(waitSchema.parse(value).position);
      else if (frame.kind === "begin") {
        startedMs = clock.now();
        expected = checkBegin(options, asked, value);
        tell(0);
      } else if (frame.kind === "error") throw theirs(options, value);
      else if (endSchema.parse(value).sentBytes === done) return;
      else throw badAnswer(options, `an end after ${done} bytes that names another number`);
    }
    asked.signal.throwIfAborted();
    throw brokenOff(options, done, new Error("the connection was closed before the end of the stream"));
  } catch (error) {
    asked.signal.throwIfAborted();
    throw error instanceof ManateeError ? error : brokenOff(options, done, error);
  } finally {
    ending.end();
  }
}

function streamPath({ snapshot, from, resumeToken }: FetchOptions): string {
  const query = new URLSearchParams();
  if (from) query.set("from", from.name);
  if (resumeToken !== undefined) query.set("resume", resumeToken);
  const text = query.toString();
  return `${PATHS.stream(snapshot.name)}${text === "" ? "" : `?${text}`}`;
}

/** The bytes expected. */
function checkBegin(options: BackupClientOptions, asked: FetchOptions, value: unknown): number | undefined {
  const begin = beginSchema.parse(value);
  const same =
    begin.snapshot === asked.snapshot.name &&
    begin.guid === asked.snapshot.guid &&
    begin.from === (asked.from?.name ?? null) &&
    begin.fromGuid === (asked.from?.guid ?? null);
  if (same) return begin.expectedBytes ?? undefined;
  throw new ManateeError({
    code: "BACKUP_OTHER_STREAM",
    message: `${at(options)} sends ${begin.snapshot} (${begin.guid}) from ${begin.from ?? "nothing"}, which is not what was asked for: ${asked.snapshot.name} (${asked.snapshot.guid}) from ${asked.from?.name ?? "nothing"}`,
    remedy: "reobserve",
    hint: "Ask for the list of snapshots again: one of that name was destroyed and another one made.",
  });
}

async function open(
  options: BackupClientOptions,
  { method, path, signal, limitMs, upgrade }: Call,
): Promise<{ answer: HttpStream; answerKey: Uint8Array }> {
  const { host, port, tls, transport, timers, credential } = options;
  const { authorization, answerKey } = await credential.sign({ method, path, body: "" });
  let answer: HttpStream;
  try {
    const calling = transport.open({
      host,
      port,
      tls,
      method,
      path,
      headers: { authorization },
      ...(upgrade === undefined ? {} : { upgrade }),
      connectLimitMs: CONNECT_LIMIT_MS,
      signal,
    });
    answer = await demandWithin(timers, limitMs ?? silenceLimit(options), calling);
  } catch (error) {
    signal.throwIfAborted();
    throw new ManateeError({
      code: "BACKUP_UNREACHABLE",
      message: `the backup server at ${at(options)} does not answer`,
      remedy: "retry",
      hint: "See whether manatee-backupserver runs on that host, on the port that the peer's configuration names (backupPort), with TLS on both sides or on none.",
      cause: error,
    });
  }
  if ([101, 200, 201].includes(answer.status)) return { answer, answerKey };
  throw theirs(options, parseJson(await textOf(options, answer)));
}

async function textOf(options: BackupClientOptions, { body }: HttpStream): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for await (const chunk of unsilent(options, body, () => {})) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > ANSWER_BYTES_MAX) throw badAnswer(options, `more than ${ANSWER_BYTES_MAX} bytes`);
    }
  } catch (error) {
    throw error instanceof ManateeError ? error : brokenOff(options, text.length, error);
  }
  return text + decoder.decode();
}

/** Ends where nothing comes although somebody waits for it: a reader may take its time. */
async function* unsilent(
  options: BackupClientOptions,
  body: AsyncIterable<Uint8Array>,
  end: () => void,
): AsyncGenerator<Uint8Array> {
  const chunks = body[Symbol.asyncIterator]();
  let waiting = false;
  try {
    for (;;) {
      waiting = true;
      const next = await demandWithin(options.timers, silenceLimit(options), chunks.next());
      waiting = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // A generator that waits can't be left: the call is ended first, which ends its wait.
    if (waiting) end();
    else await chunks.return?.();
  }
}

function silenceLimit({ silenceLimitMs = SILENCE_LIMIT_MS }: BackupClientOptions): Ms {
  return silenceLimitMs;
}

/** A signal of ours that follows theirs, without leaving a listener behind. */
function endingWith(theirs: AbortSignal): { signal: AbortSignal; end: () => void } {
  const ours = new AbortController();
  const follow = () => ours.abort(theirs.reason);
  if (theirs.aborted) follow();
  else theirs.addEventListener("abort", follow, { once: true });
  return {
    signal: ours.signal,
    end: () => {
      theirs.removeEventListener("abort", follow);
      ours.abort();
    },
  };
}

/** The server's own reason, as it would be thrown there. */
function theirs(options: BackupClientOptions, value: unknown): ManateeError {
  const problem = problemSchema.safeParse(value);
  if (!problem.success) return badAnswer(options, "an error that says nothing");
  return new ManateeError({ ...problem.data, message: `${at(options)}: ${problem.data.message}` });
}

function badAnswer(options: BackupClientOptions, what: string): ManateeError {
  return new ManateeError({
    code: "BACKUP_BAD_ANSWER",
    message: `${at(options)} answers ${what}`,
    remedy: "operator",
    hint: "See what listens there: it should be a manatee-backupserver of this version.",
  });
}

function brokenOff(options: BackupClientOptions, done: number, cause: unknown): ManateeError {
  return new ManateeError({
    code: "BACKUP_BROKEN_OFF",
    message: `the stream from ${at(options)} broke off after ${done} bytes`,
    remedy: "retry",
    hint: "Try again; if it happens again, see the log of the backup server there.",
    cause,
  });
}

function at({ host, port }: BackupClientOptions): string {
  return `${host}:${port}`;
}
