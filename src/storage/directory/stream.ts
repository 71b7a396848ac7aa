// The format of a stream: a line that says what it carries, what tar wrote, and a SHA-256 of both, so that no part of it, and nothing that was changed on its way, passes for the
// whole. By hand: `tail -n +2 FILE | tar -x`.

import { createHash } from "node:crypto";
import type { StreamStart } from "../common/medium.ts";
import { storageError } from "../errors.ts";

const MAGIC = "manatee-tar-1 ";
const LINE_MAX_BYTES = 4096;
const DIGEST_BYTES = 32;
/** Of what tar wrote: without its end tar can't end before all of it was seen to be right. */
const HELD_BYTES = 512 + DIGEST_BYTES;

/** `confirm` is asked at the end, and may refuse by throwing: the end is missing then. */
export async function* frame(
  { name, guid }: { name: string; guid: string },
  tar: AsyncIterable<Uint8Array>,
  confirm: () => Promise<void>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  const line = Buffer.from(`${MAGIC}${JSON.stringify({ name, guid })}\n`);
  hash.update(line);
  yield line;
  for await (const chunk of tar) {
    hash.update(chunk);
    yield chunk;
  }
  await confirm();
  yield hash.digest();
}

/** What tar wrote. `onStart` may refuse by throwing. Errors: `STORAGE_BAD_STREAM`, before the last of it is let through. */
export async function* unframe(
  stream: AsyncIterable<Uint8Array>,
  onStart: (start: StreamStart) => Promise<void>,
): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let started = false;
  let held = Buffer.alloc(0);
  for await (const chunk of stream) {
    held = Buffer.concat([held, chunk]);
    if (!started) {
      const line = readLine(held);
      if (line === undefined) continue;
      await onStart(readStart(line));
      started = true;
      hash.update(line);
      held = held.subarray(line.length);
    }
    if (held.length <= HELD_BYTES) continue;
    const passed = held.subarray(0, held.length - HELD_BYTES);
    held = held.subarray(passed.length);
    hash.update(passed);
    yield passed;
  }
  if (!started || held.length < DIGEST_BYTES) throw bad("it breaks off");
  const last = held.subarray(0, held.length - DIGEST_BYTES);
  hash.update(last);
  if (!hash.digest().equals(held.subarray(last.length))) throw bad("it breaks off, or was changed on its way");
  yield last;
}

/** undefined: more has to come. */
function readLine(bytes: Buffer): Buffer | undefined {
  if (bytes.length < MAGIC.length) return undefined;
  if (bytes.toString("latin1", 0, MAGIC.length) !== MAGIC) throw bad("it is none of a folder");
  const end = bytes.indexOf("\n");
  if (end < 0 && bytes.length > LINE_MAX_BYTES) throw bad("it doesn't say what it carries");
  return end < 0 ? undefined : bytes.subarray(0, end + 1);
}

function readStart(line: Buffer): StreamStart {
  let said: unknown;
  try {
    said = JSON.parse(line.toString("utf8", MAGIC.length));
  } catch {
    said = undefined;
  }
  const { name, guid } = (typeof said === "object" && said !== null ? said : {}) as Record<string, unknown>;
  if (typeof name === "string" && typeof guid === "string" && /^[0-9a-f-]{36}$/.test(guid))
    return { name, guid, fromGuid: undefined };
  throw bad("it doesn't say what it carries");
}

function bad(why: string): Error {
  return storageError("STORAGE_BAD_STREAM", `what came is no stream of a snapshot: ${why}`);
}
