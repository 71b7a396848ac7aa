// The coordination store as the rest sees it: sessions, a tree of small nodes, watches, and several writes as one.
// It carries bytes and versions and knows nothing of shards. Drivers: zookeeper/, local/, memory/ (test/contracts/coordination*.ts
// holds them to the same behaviour). Semantics are ZooKeeper's, narrowed to what Manatee needs.

import type { ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";

/** Absolute path, `/a/b`; no trailing slash, no empty part. */
export type NodePath = string;

export interface NodeValue {
  readonly data: Uint8Array;
  /** Grows by one with each set of this node; starts at 0. */
  readonly version: number;
  /** Store-wide, grows with each write: of the creation of this node, and of its last change. */
  readonly createdAt: bigint;
  readonly changedAt: bigint;
  /** Of the last change, wall clock of the store, for people. */
  readonly changedWallMs: number;
  /** The session to which it is bound; undefined for a persistent node. */
  readonly ephemeralOwner: string | undefined;
}

export type StoreOperation =
  | {
      readonly kind: "create";
      readonly path: NodePath;
      readonly data: Uint8Array;
      readonly ephemeral?: boolean;
      /** The store appends ten digits, larger than those of every node created earlier in this folder. */
      readonly sequential?: boolean;
    }
  | { readonly kind: "set"; readonly path: NodePath; readonly data: Uint8Array; readonly version: number }
  | { readonly kind: "check"; readonly path: NodePath; readonly version: number }
  /** Without a version: whatever it is. */
  | { readonly kind: "delete"; readonly path: NodePath; readonly version?: number };

export type Refusal =
  | "bad-version"
  | "no-node"
  | "node-exists"
  | "not-empty"
  | "no-parent"
  | "not-permitted"
  | "too-large";

/** Results in the order of the operations: the path made (with its sequence), or the version after it (`delete`, `check`: undefined). */
export type OperationResult = { readonly path: NodePath; readonly version: number | undefined };

/** What became of a write. `unknown`: it was sent, and may have happened, or may still happen until a newer version is read. */
export type WriteOutcome =
  | { readonly kind: "yes"; readonly results: readonly OperationResult[] }
  /** Nothing of it happened, nor will. `operation`: the index of the one refused. */
  | { readonly kind: "no"; readonly operation: number; readonly refusal: Refusal }
  /** Never sent: not connected, or aborted before. Nothing happened. */
  | { readonly kind: "unsent"; readonly error: ManateeError }
  | { readonly kind: "unknown"; readonly error: ManateeError };

/**
 * `connecting`: no session yet, or cut off and within the session's time: ephemeral nodes are probably still there.
 * `expired`: the session is over by the store's word, or must be assumed over by our own clock; final, make a new one.
 */
export type SessionStatus =
  | { readonly kind: "connecting"; readonly since: Ms }
  | { readonly kind: "connected"; readonly since: Ms; readonly server: string }
  | { readonly kind: "expired"; readonly since: Ms; readonly reason: string }
  | { readonly kind: "closed"; readonly since: Ms };

/** What a process needs to take up its session again after a restart. Secret: it is the right to the session. */
export interface SessionTicket {
  readonly sessionId: string;
  readonly secret: string;
}

/**
 * One session. Every promise settles, at the latest when the session ends: reads and lists reject with a ManateeError
 * (`STORE_UNREACHABLE`, `STORE_SESSION_EXPIRED`, `STORE_NOT_PERMITTED`, `STORE_CLOSED`); writes never reject, their outcome says it.
 * An abort settles the call at once; a write already sent is then `unknown`.
 */
export interface Session {
  /** Identifies the session, comparable with {@link NodeValue.ephemeralOwner}; undefined before the first connection. */
  readonly id: string | undefined;
  readonly status: SessionStatus;
  /** As negotiated with the store; the requested one before the first connection. */
  readonly timeoutMs: Ms;
  readonly ticket: SessionTicket | undefined;
  /** True where the driver is one that must not be used in production (the embedded store). */
  readonly evaluationOnly: boolean;

  /** Called (never during the call itself) after each change of `status`. Returns how to stop that. */
  onStatus(listener: (status: SessionStatus) => void): () => void;

  /** undefined: there is no such node. `confirmed`: not older than the moment of the call (ZooKeeper: sync before the read). */
  read(path: NodePath, options?: { confirmed?: boolean; signal?: AbortSignal }): Promise<NodeValue | undefined>;
  /** Names of the children, in no order; undefined: there is no such node. */
  list(path: NodePath, options?: { signal?: AbortSignal }): Promise<readonly string[] | undefined>;

  /**
   * Calls the listener whenever the node's data (`data`) or list of children (`children`) may have changed, and after each
   * reconnection: it only means "look again". Watches survive reconnecting. Never called during this call. Returns how to stop.
   */
  watch(path: NodePath, what: "data" | "children", listener: () => void): () => void;

  /** All operations, in order, or none. */
  write(operations: readonly StoreOperation[], options?: { signal?: AbortSignal }): Promise<WriteOutcome>;

  /** Ends the session (its ephemeral nodes go) where the store can be reached within the limit. Idempotent, bounded, never rejects. */
  close(options?: { limitMs?: Ms }): Promise<void>;
  /** Drops the connection and leaves the session to the store, to be taken up again with its ticket. Never rejects. */
  abandon(): Promise<void>;
}

/** Opens sessions. Returns at once, with a session that is `connecting`. */
export interface Coordination {
  /** For logs and messages: `zookeeper 127.0.0.1:2181/chroot`. */
  readonly description: string;
  /** `resume`: take up that session; where the store no longer has it, a new one is made instead (its `id` differs). */
  open(options: { sessionTimeoutMs: Ms; resume?: SessionTicket }): Session;
}
