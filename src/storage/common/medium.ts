// What storage in folders leaves to a driver: how the content of a dataset or snapshot is made, copied, removed, sent and received. Names, properties, holds
// and whatever else is seen of it are the same for all, in folder-storage.ts.

import type { Bytes } from "../../base/units.ts";
import type { Capabilities, Snapshot } from "../port.ts";
import type { Facts } from "./notes.ts";

export interface Medium {
  /** For people. */
  readonly description: string;
  capabilities(): Promise<Capabilities>;
  /** Of the file system. Errors: `STORAGE_UNAVAILABLE`: it is not there (now): a disk that isn't mounted must not pass for an empty one. */
  space(): Promise<{ used: Bytes; free: Bytes }>;
  /** Whether what lies there can be the content of a dataset. */
  isContent(path: string): Promise<boolean>;
  /** An empty one. */
  make(path: string): Promise<void>;
  /** A writable one, of a snapshot's. Durable when it resolves. Errors: `STORAGE_NO_SNAPSHOT`. `target` lies in the hidden place: cut short, it is swept. */
  copy(source: string, target: string): Promise<void>;
  /** A snapshot's, of a dataset's. Durable when it resolves. `target` as with `copy`. */
  take(source: string, target: string, surroundings: Surroundings): Promise<Facts>;
  readonly removal: Removal;
  /** Whether something was written to a dataset's content since this snapshot's became it. Asked before a difference is received. */
  changedSince(options: { content: string; snapshot: string }): Promise<boolean>;
  /** `source`, `from`: where the contents of both snapshots lie. */
  send(options: {
    snapshot: Snapshot;
    source: string;
    from: string | undefined;
    signal: AbortSignal;
  }): AsyncIterable<Uint8Array>;
  /** Into the folder `into`, as the folder of the snapshot's name. `onStart` is told once, before anything is written, and may refuse by throwing. Durable when it resolves. */
  receive(options: {
    into: string;
    stream: AsyncIterable<Uint8Array>;
    onStart: (start: StreamStart) => Promise<void>;
    signal: AbortSignal;
  }): Promise<Facts>;
}

/** Of a snapshot that is taken. */
export interface Surroundings {
  readonly name: string;
  /** Where other datasets are mounted within: relative paths. They don't belong to it. */
  mountedWithin(): Promise<readonly string[]>;
  /** Its own has to be higher. */
  newestGeneration(): Promise<number>;
}

/** What a stream says at its beginning. */
export interface StreamStart {
  /** Of the snapshot. */
  readonly name: string;
  /** Of what it carries. */
  readonly guid: string;
  /** Of what it is the difference to; undefined: it is whole. */
  readonly fromGuid: string | undefined;
}

/** How goes what can't be removed as files are. */
export interface Removal {
  /** At any depth, not within one another. */
  contentsIn(folder: string): Promise<readonly string[]>;
  /** Their space is free when it resolves, or will be soon. */
  remove(contents: readonly string[]): Promise<void>;
}
