// Frames as lines of JSON, for the socket and for the file: bytes as base64, 64-bit numbers as text. Reading checks the form: the
// other end may be another version of this program.

import { z } from "zod";
import type { StoreOperation } from "../port.ts";
import type { ClientFrame, StoreFrame } from "../memory/frames.ts";

/** A write of a megabyte as base64, or a list of 100 000 names. */
export const LINE_BYTES_MAX = 16 * 1024 * 1024;

const NOTHING = null;
const DATA = z.string().transform((text) => new Uint8Array(Buffer.from(text, "base64")));
const BIG = z.string().regex(/^\d+$/).transform(BigInt);
const PATH = z.string();
const WATCH = z.enum(["data", "children"]);
const TICKET = z.object({ sessionId: z.string(), secret: z.string() });
const orUndefined = <T extends z.ZodType>(type: T) =>
  type.nullable().transform((value): z.output<T> | undefined => value ?? undefined);

export const OPERATION = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("create"),
    path: PATH,
    data: DATA,
    ephemeral: z.boolean().default(false),
    sequential: z.boolean().default(false),
  }),
  z.object({ kind: z.literal("set"), path: PATH, data: DATA, version: z.number() }),
  z.object({ kind: z.literal("check"), path: PATH, version: z.number() }),
  z
    .object({ kind: z.literal("delete"), path: PATH, version: z.number().optional() })
    .transform(({ version, ...rest }) => (version === undefined ? rest : { ...rest, version })),
]);

const CLIENT_FRAME = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("hello"), timeoutMs: z.number(), resume: orUndefined(TICKET), orNew: z.boolean() }),
  z.object({ kind: z.literal("ping"), call: z.number() }),
  z.object({ kind: z.literal("read"), call: z.number(), path: PATH, confirmed: z.boolean() }),
  z.object({ kind: z.literal("list"), call: z.number(), path: PATH }),
  z.object({ kind: z.literal("write"), call: z.number(), operations: z.array(OPERATION) }),
  z.object({ kind: z.enum(["watch", "unwatch"]), path: PATH, what: WATCH }),
  z.object({ kind: z.literal("close"), call: z.number() }),
]);

const NODE = z.object({
  data: DATA,
  version: z.number(),
  createdAt: BIG,
  changedAt: BIG,
  changedWallMs: z.number(),
  ephemeralOwner: orUndefined(z.string()),
});
const REFUSAL = z.enum([
  "bad-version",
  "no-node",
  "node-exists",
  "not-empty",
  "no-parent",
  "not-permitted",
  "too-large",
]);
const RESULT = z.object({ path: PATH, version: orUndefined(z.number()) });
const ANSWER = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("done") }),
  z.object({ kind: z.literal("node"), node: orUndefined(NODE) }),
  z.object({ kind: z.literal("names"), names: orUndefined(z.array(z.string())) }),
  z.object({ kind: z.literal("yes"), results: z.array(RESULT) }),
  z.object({ kind: z.literal("no"), operation: z.number(), refusal: REFUSAL }),
]);
const STORE_FRAME = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("welcome"), ticket: TICKET, timeoutMs: z.number(), server: z.string() }),
  z.object({ kind: z.literal("gone"), reason: z.string() }),
  z.object({ kind: z.literal("answer"), call: z.number(), answer: ANSWER }),
  z.object({ kind: z.literal("changed"), path: PATH, what: WATCH }),
]);

/** undefined: it is none. */
export function decodeClientFrame(line: string): ClientFrame | undefined {
  return decoded(CLIENT_FRAME, line);
}

/** undefined: it is none. */
export function decodeStoreFrame(line: string): StoreFrame | undefined {
  return decoded(STORE_FRAME, line);
}

export function encodeFrame(frame: ClientFrame | StoreFrame): string {
  const plain = frame.kind === "write" ? { ...frame, operations: frame.operations.map(plainOperation) } : frame;
  return `${encodeJson(plain)}\n`;
}

/** undefined becomes null, so that a field that must be there is. */
export function encodeJson(value: unknown): string {
  return JSON.stringify(value, (_, each: unknown) => {
    if (each === undefined) return NOTHING;
    if (typeof each === "bigint") return each.toString();
    if (each instanceof Uint8Array) return Buffer.from(each).toString("base64");
    // A Buffer turns itself into an object before this function sees it.
    if (isBufferJson(each)) return Buffer.from(each.data).toString("base64");
    return each;
  });
}

/** What goes into the file or over the socket, without the optional fields that are not set. */
export function plainOperation(operation: StoreOperation): StoreOperation {
  return Object.fromEntries(Object.entries(operation).filter(([, value]) => value !== undefined)) as StoreOperation;
}

/** Cuts a stream of bytes into lines. Returns what to do with each chunk; `tooLong` ends it. */
export function lineSplitter(onLine: (line: string) => void, tooLong: () => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let size = 0;
  return (chunk) => {
    let rest = chunk;
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10)) {
      parts.push(rest.subarray(0, at));
      const line = Buffer.concat(parts).toString("utf8");
      [parts, size] = [[], 0];
      rest = rest.subarray(at + 1);
      onLine(line);
    }
    if (rest.length > 0) parts.push(rest);
    size += rest.length;
    if (size > LINE_BYTES_MAX) tooLong();
  };
}

function decoded<T>(schema: z.ZodType<T>, line: string): T | undefined {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return undefined;
  }
  return schema.safeParse(json).data;
}

function isBufferJson(value: unknown): value is { readonly data: readonly number[] } {
  return typeof value === "object" && value !== null && (value as { type?: unknown }).type === "Buffer";
}
