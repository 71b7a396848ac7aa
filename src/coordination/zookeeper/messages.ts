// ZooKeeper's messages: what is sent and what is answered, as far as this client uses them. Pure; paths here are the store's own (with
// chroot). Field by field after zookeeper.jute of the 3.8 sources.

import { JuteReader, JuteWriter, MalformedRecord } from "./jute.ts";

/** Types of requests. */
export const OP = {
  create: 1,
  delete: 2,
  exists: 3,
  getData: 4,
  setData: 5,
  getChildren: 8,
  sync: 9,
  check: 13,
  multi: 14,
  auth: 100,
  setWatches: 101,
  sasl: 102,
  closeSession: -11,
  error: -1,
} as const;

/** Numbers of exchanges that are not the caller's requests: those count from 1. */
export const XID = { notification: -1, auth: -4, setWatches: -8 } as const;

/** Codes of errors in answers. */
export const ERR = {
  ok: 0,
  runtimeInconsistency: -2,
  connectionLoss: -4,
  badArguments: -8,
  noNode: -101,
  noAuth: -102,
  badVersion: -103,
  noChildrenForEphemerals: -108,
  nodeExists: -110,
  notEmpty: -111,
  sessionExpired: -112,
  invalidAcl: -114,
  authFailed: -115,
  sessionMoved: -118,
  notReadOnly: -119,
  saslRequired: -124,
  quotaExceeded: -125,
  throttled: -127,
} as const;

export const EVENT = { created: 1, deleted: 2, dataChanged: 3, childrenChanged: 4 } as const;

export interface ConnectRequest {
  readonly lastZxid: bigint;
  readonly timeoutMs: number;
  /** 0: a new session. */
  readonly sessionId: bigint;
  readonly password: Uint8Array;
}

export interface ConnectAnswer {
  /** 0 or less: the session is over. */
  readonly timeoutMs: number;
  readonly sessionId: bigint;
  readonly password: Uint8Array;
}

export interface AnswerHeader {
  readonly xid: number;
  readonly zxid: bigint;
  readonly error: number;
}

export interface Stat {
  readonly createdZxid: bigint;
  readonly changedZxid: bigint;
  readonly changedWallMs: number;
  readonly version: number;
  /** 0: none. */
  readonly ephemeralOwner: bigint;
}

export interface NodeEvent {
  readonly type: number;
  readonly path: string;
}

export interface Acl {
  readonly permissions: number;
  readonly scheme: string;
  readonly id: string;
}

export type MultiOperation =
  | {
      readonly kind: "create";
      readonly path: string;
      readonly data: Uint8Array;
      readonly acl: readonly Acl[];
      readonly ephemeral: boolean;
      readonly sequential: boolean;
    }
  | { readonly kind: "set"; readonly path: string; readonly data: Uint8Array; readonly version: number }
  | { readonly kind: "check"; readonly path: string; readonly version: number }
  | { readonly kind: "delete"; readonly path: string; readonly version: number };

export type MultiResult =
  | { readonly kind: "create"; readonly path: string }
  | { readonly kind: "set"; readonly version: number }
  | { readonly kind: "check" | "delete" }
  | { readonly kind: "error"; readonly error: number };

export function writeConnectRequest(to: JuteWriter, request: ConnectRequest): void {
  to.int(0).long(request.lastZxid).int(request.timeoutMs).long(request.sessionId).bytesField(request.password);
  // readOnly: a server without a majority must not take us.
  to.bool(false);
}

export function readConnectAnswer(from: JuteReader): ConnectAnswer {
  from.int();
  const timeoutMs = from.int();
  const sessionId = from.long();
  const password = from.bytesField();
  return { timeoutMs, sessionId, password };
}

export function writeRequestHeader(to: JuteWriter, header: { xid: number; type: number }): void {
  to.int(header.xid).int(header.type);
}

export function readAnswerHeader(from: JuteReader): AnswerHeader {
  return { xid: from.int(), zxid: from.long(), error: from.int() };
}

export function readStat(from: JuteReader): Stat {
  const createdZxid = from.long();
  const changedZxid = from.long();
  from.long();
  const changedWallMs = Number(from.long());
  const version = from.int();
  from.int();
  from.int();
  const ephemeralOwner = from.long();
  from.int();
  from.int();
  from.long();
  return { createdZxid, changedZxid, changedWallMs, version, ephemeralOwner };
}

export function readNodeEvent(from: JuteReader): NodeEvent {
  const type = from.int();
  from.int();
  return { type, path: from.string() };
}

export function writePathAndWatch(to: JuteWriter, path: string, watch: boolean): void {
  to.string(path).bool(watch);
}

export function readChildren(from: JuteReader): string[] {
  return from.vector(4, () => from.string());
}

export function writeAuth(to: JuteWriter, auth: { scheme: string; credential: Uint8Array }): void {
  to.int(0).string(auth.scheme).bytesField(auth.credential);
}

export interface WatchLists {
  readonly data: readonly string[];
  readonly exists: readonly string[];
  readonly children: readonly string[];
}

export function writeSetWatches(to: JuteWriter, relativeZxid: bigint, watches: WatchLists): void {
  to.long(relativeZxid);
  for (const paths of [watches.data, watches.exists, watches.children]) to.vector(paths, (path) => to.string(path));
}

const EPHEMERAL_FLAG = 1;
const SEQUENTIAL_FLAG = 2;

export function writeMulti(to: JuteWriter, operations: readonly MultiOperation[]): void {
  for (const operation of operations) {
    writeMultiHeader(to, OPERATION_TYPE[operation.kind], false);
    writeOperation(to, operation);
  }
  writeMultiHeader(to, -1, true);
}

const OPERATION_TYPE = { create: OP.create, set: OP.setData, check: OP.check, delete: OP.delete } as const;

function writeMultiHeader(to: JuteWriter, type: number, done: boolean): void {
  to.int(type).bool(done).int(-1);
}

/** `create`, not `create2`, in which 3.8 servers answer with the type of the other. A version 0 stays 0: -1 would mean any. */
function writeOperation(to: JuteWriter, operation: MultiOperation): void {
  to.string(operation.path);
  switch (operation.kind) {
    case "create":
      to.bytesField(operation.data);
      to.vector(operation.acl, ({ permissions, scheme, id }) => to.int(permissions).string(scheme).string(id));
      to.int((operation.ephemeral ? EPHEMERAL_FLAG : 0) | (operation.sequential ? SEQUENTIAL_FLAG : 0));
      return;
    case "set":
      to.bytesField(operation.data).int(operation.version);
      return;
    case "check":
    case "delete":
      to.int(operation.version);
      return;
    default:
      operation satisfies never;
  }
}

/** As many results as there were operations: any other number is malformed. */
export function readMultiResults(from: JuteReader, count: number): MultiResult[] {
  const results: MultiResult[] = [];
  for (;;) {
    const type = from.int();
    const done = from.bool();
    from.int();
    if (done) break;
    if (results.length === count) throw new MalformedRecord(`more than ${count} results`);
    results.push(readResult(from, type));
  }
  if (results.length !== count) throw new MalformedRecord(`${results.length} results for ${count} operations`);
  return results;
}

function readResult(from: JuteReader, type: number): MultiResult {
  switch (type) {
    case OP.create:
      return { kind: "create", path: from.string() };
    case OP.setData:
      return { kind: "set", version: readStat(from).version };
    case OP.check:
      return { kind: "check" };
    case OP.delete:
      return { kind: "delete" };
    case OP.error:
      return { kind: "error", error: from.int() };
    default:
      throw new MalformedRecord(`a result of type ${type}`);
  }
}
