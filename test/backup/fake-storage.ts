// A storage whose streams are what a test wants them to be. The contract is the drivers' matter; here it is who reads, how fast, and what breaks.

import type { Snapshot, SnapshotName, Storage } from "../../src/storage/port.ts";
import { DATASET } from "../support/backup.ts";

export interface FakeStorage extends Storage {
  /** Names of snapshots with the tags that hold each, now. */
  holds(name: string): readonly string[];
  /** Streams that were begun, and not left. */
  readonly open: number;
}

export function fakeStorage(streams: {
  readonly [name: string]: (options: {
    signal: AbortSignal;
    from?: SnapshotName;
    resumeToken?: string;
  }) => AsyncIterable<Uint8Array>;
}): FakeStorage {
  const names = Object.keys(streams);
  const holds = new Map<string, Set<string>>(names.map((name) => [name, new Set()]));
  let open = 0;
  const snapshotOf = (name: string): Snapshot => ({
    dataset: DATASET,
    name,
    guid: `guid-${name}`,
    createdWallMs: 1_000,
    properties: {},
    holds: [...(holds.get(name) ?? [])],
    ownBytes: undefined,
    referencedBytes: undefined,
  });
  return {
    space: () => Promise.resolve({ used: 40, free: 60 }),
    capabilities: () => Promise.resolve({ atomic: true, shared: true, incremental: true, resume: true, format: "zfs" }),
    snapshots: () => Promise.resolve(names.map(snapshotOf)),
    snapshot: ({ name }: SnapshotName) => {
      names.push(name);
      holds.set(name, new Set());
      return Promise.resolve(snapshotOf(name));
    },
    hold: ({ name }: SnapshotName, tag: string) => Promise.resolve(void holds.get(name)?.add(tag)),
    release: ({ name }: SnapshotName, tag: string) => Promise.resolve(void holds.get(name)?.delete(tag)),
    estimate: () => Promise.resolve(1_000_000),
    async *send({ snapshot, ...options }: Parameters<Storage["send"]>[0]) {
      open++;
      try {
        yield* streams[snapshot.name]?.(options) ?? [];
      } finally {
        open--;
      }
    },
    holds: (name: string) => [...(holds.get(name) ?? [])],
    get open() {
      return open;
    },
  } as unknown as FakeStorage;
}
