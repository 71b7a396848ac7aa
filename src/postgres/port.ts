// PostgreSQL of one peer, as the sitter sees it. Driver: real/. The simulation has a model of its own (simulation/).

import type { PostgresAction } from "../cluster/decision.ts";
import type { PostgresObservation, PostgresSettings } from "../cluster/observation.ts";
import type { PostgresReport } from "../status/report.ts";

/**
 * One data directory and the server on it. Calls are made by one sitter, one at a time, except `observe`, which may run
 * beside a job. Nothing here decides: each action does what it says, checks its own preconditions, and fails rather than guess.
 */
export interface PostgresServer {
  /**
   * Looks afresh, where a server runs over a connection that was *opened* half a second ago at most: one that is open says nothing of a postmaster. Bounded
   * (by `probeLimitMs` of the configuration); never rejects for what the server does: a server that does not answer is `unresponsive`.
   */
  observe(): Promise<PostgresObservation>;

  /**
   * Makes the running server's settings these: writes our files, reloads, and checks that they are in force (not: that each
   * walsender has applied them; that is seen in `syncPriority`). Does nothing where they are already. Also takes in changes of
   * the operator's own files; a mistake in them is told (`PG_CONF_REJECTED`, `PG_HBA_REJECTED`) and done without: it is no reason to fail. Errors:
   * `PG_SETTING_OVERRIDDEN`, `PG_NOT_RUNNING`, `PG_UNRESPONSIVE`.
   */
  applySettings(settings: PostgresSettings, peers: readonly ReplicationPeer[]): Promise<void>;

  /** The operator's own files may have changed: the next `applySettings` reloads in any case. */
  takeInFiles(): void;

  /**
   * Begins the action. Short ones are done when the promise resolves. Long ones (see {@link PostgresAction}) go on as the
   * observation's `job`; their failure is shown in `failure`, and the promise resolves once they have begun.
   */
  perform(action: PostgresAction, peers: readonly ReplicationPeer[]): Promise<void>;

  /** Ends the long action under way; what it had made stays marked as incomplete. Resolves when it has ended. */
  cancelJob(): Promise<void>;

  /** Makes the last document that was seen durable in the mark. No effect without data. */
  rememberDocument(document: { version: number; json: string }): Promise<void>;

  /** For people and tools, from the last look: what the observation does not need (rows of pg_stat_replication, version, warnings). */
  report(): Promise<PostgresReport>;

  /** "Look again": the server exited, its state changed, a job ended. */
  onChange(listener: () => void): () => void;

  /** Leaves the server as it is (`leave`), or stops it (`fast`), and ends everything of this driver. Bounded. */
  close(how: "leave" | "fast"): Promise<void>;
}

/** From where replication is admitted (pg_hba), and as whom. */
export interface ReplicationPeer {
  readonly ip: string;
}
