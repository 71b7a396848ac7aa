// Between the port's operations and the store's transaction: what is asked, and what became of it. Pure.

import type { OperationResult, Refusal, StoreOperation, WriteOutcome } from "../port.ts";
import { notPermitted, outcomeUnknown, sessionExpired, unreachable } from "./errors.ts";
import { JuteWriter, type JuteReader } from "./jute.ts";
import { REQUEST_BYTES } from "./limits.ts";
import { ERR, readMultiResults, writeMulti, type Acl, type MultiOperation, type MultiResult } from "./messages.ts";

/** Operations in the store's own words. Throws RangeError on a version below 0, which would mean "any" there. */
export function toTransaction(
  operations: readonly StoreOperation[],
  { acl, toStorePath }: { acl: readonly Acl[]; toStorePath: (path: string) => string },
): MultiOperation[] {
  return operations.map((operation): MultiOperation => {
    const path = toStorePath(operation.path);
    switch (operation.kind) {
      case "create": {
        const { data, ephemeral = false, sequential = false } = operation;
        return { kind: "create", path, data, acl, ephemeral, sequential };
      }
      case "set":
        return { kind: "set", path, data: operation.data, version: checked(operation.version) };
      case "check":
        return { kind: "check", path, version: checked(operation.version) };
      case "delete":
        return { kind: "delete", path, version: operation.version === undefined ? -1 : checked(operation.version) };
      default:
        return operation satisfies never;
    }
  });
}

function checked(version: number): number {
  if (!Number.isInteger(version) || version < 0) throw new RangeError(`${version} is not a version`);
  return version;
}

/** The operation that is to blame where the transaction is larger than a server takes; undefined: it fits. */
export function tooLarge(transaction: readonly MultiOperation[]): number | undefined {
  const message = new JuteWriter();
  writeMulti(message, transaction);
  if (message.size + HEADER_BYTES <= REQUEST_BYTES) return undefined;
  const sizes = transaction.map((operation) => ("data" in operation ? operation.data.length : 0));
  return sizes.indexOf(Math.max(...sizes));
}

const HEADER_BYTES = 8;

/** Throws MalformedRecord where the answer is none. */
export function readOutcome(
  body: JuteReader,
  { transaction, toCallersPath }: { transaction: readonly MultiOperation[]; toCallersPath: (path: string) => string },
): WriteOutcome {
  const results = readMultiResults(body, transaction.length);
  // Those before the one refused say 0, those after it say "inconsistent".
  const refused = results.findIndex(
    (result) => result.kind === "error" && result.error !== ERR.ok && result.error !== ERR.runtimeInconsistency,
  );
  if (refused === -1 && results.some((result) => result.kind === "error"))
    return { kind: "unknown", error: outcomeUnknown("the store refused a transaction without saying why") };
  const result = results[refused];
  const operation = transaction[refused];
  if (result?.kind === "error" && operation !== undefined) return refusalOf(result.error, operation.kind, refused);
  return {
    kind: "yes",
    results: results.map((result, index) => toOperationResult(result, transaction[index]?.path ?? "", toCallersPath)),
  };
}

function toOperationResult(
  result: MultiResult,
  asked: string,
  toCallersPath: (path: string) => string,
): OperationResult {
  if (result.kind === "create") return { path: toCallersPath(result.path), version: 0 };
  return { path: toCallersPath(asked), version: result.kind === "set" ? result.version : undefined };
}

/** The whole request was answered with an error, without results. */
export function outcomeOfError(code: number): WriteOutcome {
  switch (code) {
    case ERR.sessionExpired:
      return { kind: "unsent", error: sessionExpired("the store says so") };
    case ERR.sessionMoved:
    case ERR.notReadOnly:
    case ERR.throttled:
      return { kind: "unsent", error: unreachable(`the store put the write back (${errorName(code)})`) };
    default:
      return refusalOf(code, "check", 0);
  }
}

function refusalOf(code: number, kind: MultiOperation["kind"], operation: number): WriteOutcome {
  const refusal = REFUSALS.get(code);
  if (code === ERR.noNode) return { kind: "no", operation, refusal: kind === "create" ? "no-parent" : "no-node" };
  if (refusal !== undefined) return { kind: "no", operation, refusal };
  return { kind: "unknown", error: outcomeUnknown(`the store answered a write with ${errorName(code)}`) };
}

const REFUSALS: ReadonlyMap<number, Refusal> = new Map([
  [ERR.badVersion, "bad-version"],
  [ERR.nodeExists, "node-exists"],
  [ERR.notEmpty, "not-empty"],
  // An ephemeral node can't be a parent: for the caller there is none.
  [ERR.noChildrenForEphemerals, "no-parent"],
  [ERR.noAuth, "not-permitted"],
  [ERR.invalidAcl, "not-permitted"],
  [ERR.authFailed, "not-permitted"],
  [ERR.saslRequired, "not-permitted"],
  [ERR.quotaExceeded, "too-large"],
  // The root itself can be neither made nor deleted.
  [ERR.badArguments, "not-permitted"],
]);

/** What a read that was answered with an error rejects with. */
export function errorOfRead(code: number, path: string): Error {
  if (code === ERR.noAuth || code === ERR.saslRequired || code === ERR.authFailed)
    return notPermitted(`reading ${path}`);
  if (code === ERR.sessionExpired) return sessionExpired("the store says so");
  return unreachable(`the store answered a read of ${path} with ${errorName(code)}`);
}

function errorName(code: number): string {
  const name = Object.entries(ERR).find(([, value]) => value === code)?.[0];
  return name === undefined ? `error ${code}` : `error ${code}, ${name}`;
}
