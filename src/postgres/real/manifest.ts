// The backup manifest: what the source says it has sent, checked against what has arrived.

import { createHash } from "node:crypto";
import { historyFileName } from "./timeline-history.ts";

export interface ReceivedFile {
  readonly size: number;
  readonly crc32c: number;
}

/** What is wrong with the copy; undefined: all that the manifest names has arrived as it was. */
export function manifestProblem(manifest: string, received: ReadonlyMap<string, ReceivedFile>): string | undefined {
  const parsed = parseManifest(manifest);
  if (typeof parsed === "string") return parsed;
  for (const { path, size, checksum } of parsed.files) {
    const file = received.get(path);
    if (!file) return `${path} has not arrived`;
    if (file.size !== size) return `${path} has ${file.size} bytes instead of ${size}`;
    if (checksum !== undefined && file.crc32c !== checksum) return `${path} arrived with a wrong checksum`;
  }
  const named = new Set(parsed.files.map(({ path }) => path));
  // WAL is not listed: it is checked record by record when it is replayed.
  for (const path of received.keys())
    if (!named.has(path) && !path.startsWith("pg_wal/")) return `${path} is not in the manifest`;
  for (const timeline of parsed.timelines)
    if (timeline > 1 && !received.has(`pg_wal/${historyFileName(timeline)}`))
      return `the history of timeline ${timeline} has not arrived`;
  return undefined;
}

interface Manifest {
  readonly files: readonly { path: string; size: number; checksum: number | undefined }[];
  readonly timelines: readonly number[];
}

function parseManifest(text: string): Manifest | string {
  // The manifest's own checksum is of all before the line in which it stands.
  const lastLine = text.lastIndexOf('"Manifest-Checksum"');
  if (lastLine < 0) return "the manifest has no checksum";
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "the manifest is no JSON";
  }
  const document = value as {
    Files?: readonly {
      Path?: string;
      "Encoded-Path"?: string;
      Size: number;
      "Checksum-Algorithm"?: string;
      Checksum?: string;
    }[];
    "WAL-Ranges"?: readonly { Timeline: number }[];
    "Manifest-Checksum"?: string;
  };
  if (createHash("sha256").update(text.slice(0, lastLine)).digest("hex") !== document["Manifest-Checksum"])
    return "the manifest's own checksum is wrong";
  return {
    files: (document.Files ?? []).map((file) => ({
      path: file.Path ?? Buffer.from(file["Encoded-Path"] ?? "", "hex").toString("utf8"),
      size: file.Size,
      checksum:
        file["Checksum-Algorithm"] === "CRC32C" ? Buffer.from(file.Checksum ?? "", "hex").readUInt32LE(0) : undefined,
    })),
    timelines: (document["WAL-Ranges"] ?? []).map(({ Timeline }) => Timeline),
  };
}
