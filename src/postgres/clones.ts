// Servers that an operator has had started on clones of a peer's snapshots, as he sees them. They are none of the shard's.

import type { Ms } from "../base/units.ts";
import type { CloneFacts } from "../snapshots/clones.ts";
import type { Snapshot } from "../storage/port.ts";

export interface Clone extends CloneFacts {
  /** Its port, in digits. */
  readonly name: string;
  /** In the storage. */
  readonly dataset: string;
  /** `stopped`: after a restart of the machine, or a crash; nobody starts it again. */
  readonly state: "running" | "stopped";
  /** Of its Unix socket: only who owns the data comes in there, as the superuser, without a password. */
  readonly socketDir: string;
}

/** A snapshot of this peer's. */
export type CloneSource = Pick<Snapshot, "name" | "createdWallMs" | "properties">;

/** Where clones are made, as the storage tells it. */
export interface ClonePlace {
  readonly snapshots: readonly CloneSource[];
  /** A clone costs neither time nor space that grows with the data. */
  readonly shared: boolean;
  readonly freePercent: number;
}

/** Each call rejects with a ManateeError: `CLONE_NO_STORAGE`, `CLONE_NOT_OWNER`, `CLONE_UNKNOWN`, `CLONE_PORT_TAKEN`, `CLONE_NOT_STARTED`, `SNAPSHOT_LEADS_OUT`, and those of the storage. */
export interface Clones {
  place(): Promise<ClonePlace>;
  /** By port. */
  list(): Promise<readonly Clone[]>;
  /** One that is free; a given one is looked at. */
  choosePort(wanted: number | undefined): Promise<number>;
  /** Resolves when it takes writes. Otherwise nothing of it is left. `onStep`: in words. */
  make(options: {
    snapshot: CloneSource;
    port: number;
    ttlMs: Ms;
    limitMs: Ms;
    onStep: (text: string) => void;
  }): Promise<Clone>;
  /** It is gone, with all that was written to it. */
  drop(name: string): Promise<void>;
}
