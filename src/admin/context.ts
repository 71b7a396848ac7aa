// What the tools are handed in, so that they run against real and simulated stores alike.

import type { SnapshotEntry, SnapshotList } from "../backup/wire.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { SitterConfig, StoreConfig } from "../config/types.ts";
import type { Coordination, NodePath, Session } from "../coordination/port.ts";
import type { Clones } from "../postgres/clones.ts";
import type { Forks } from "../postgres/forks.ts";
import type { RebuildLook } from "../postgres/rebuild-look.ts";
import type { Restores } from "../postgres/restore.ts";
import type { ShardStore } from "../shard/port.ts";
import type { World } from "../world/port.ts";

export interface AdminContext {
  readonly world: World;
  readonly terminal: Terminal;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Of this package. */
  readonly version: string;
  /** Stands in what is written, as its author: `manatee-adm of root on db1`. */
  readonly author: string;
  /** Asynchronous, so that a driver is loaded only when it is used. */
  coordination(store: StoreConfig): Promise<Coordination>;
  shardStore(session: Session, path: NodePath): ShardStore;
  /** Those that this host's peer keeps. */
  forks(config: SitterConfig): Promise<Forks>;
  /** What a rebuild of this host's peer would find. */
  rebuildLook(config: SitterConfig): Promise<RebuildLook>;
  /** Those of this host's peer. */
  clones(config: SitterConfig): Promise<Clones>;
  /** Putting this host's peer back to one of its snapshots. */
  restores(config: SitterConfig): Promise<Restores>;
  /** Of the peers of that file's shard. */
  backups(config: SitterConfig): Promise<PeerBackups>;
}

/** The peers' backup servers. Each call rejects with a ManateeError, `BACKUP_UNREACHABLE` where there is none. */
export interface PeerBackups {
  list(peer: PeerAddress): Promise<SnapshotList>;
  /** One that is begun after this call. */
  takeNow(peer: PeerAddress): Promise<SnapshotEntry>;
}

export interface Terminal {
  /** A line on the standard output. */
  print(line: string): void;
  /** A line on the standard error output: problems, progress. */
  note(line: string): void;
  /** Whether somebody can be asked. */
  readonly interactive: boolean;
  /** Whether what is printed may be coloured. */
  readonly colour: boolean;
  /** Whether notes may be: either output may go to a file while the other is a terminal. */
  readonly noteColour: boolean;
  /** undefined: the input ended. */
  ask(question: string): Promise<string | undefined>;
}
