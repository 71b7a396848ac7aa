// What a sitter tells about itself (GET /state on its status port, postgresPort + 1): to its neighbours as evidence (D2), to manatee-adm and
// manatee-stat, to people. JSON; WAL positions as `X/Y`; durations in ms. Fields may be added; readers ignore what they don't know.

export interface PeerReport {
  readonly id: string;
  /** Names one run of the sitter: two that bear one name are told apart by it. */
  readonly run: string;
  readonly zoneId: string;
  readonly shard: string;
  readonly pgUrl: string;
  readonly incarnation: string | null;
  readonly systemIdentifier: string | null;
  /** The document as this peer knows it; null: not read. */
  readonly generation: number | null;
  readonly version: number | null;
  readonly role: "primary" | "sync" | "async" | "deposed" | "none" | null;
  readonly decision: DecisionReport;
  readonly store: {
    readonly connected: boolean;
    readonly sinceMs: number;
    readonly evaluationOnly: boolean;
    readonly openToAll: boolean | null;
  };
  readonly postgres: PostgresReport;
  /** Peers that are silent for this one, and for how long (D2's second witness). */
  readonly silent: readonly { readonly id: string; readonly forMs: number }[];
  /** policy.forksKeptMax; null: a sitter that does not tell. */
  readonly forksKeptMax?: number | null;
  /** The durable copy of the last document that this peer saw (B1); null: it has none. For `manatee-adm state restore`. */
  readonly lastDocument?: { readonly version: number; readonly json: string } | null;
}

export interface DecisionReport {
  readonly rule: string;
  readonly because: string;
  readonly waitingOn: string | null;
  /** The command that leads on, where only an operator can. */
  readonly operator: string | null;
  /** How long this has been the decision. */
  readonly forMs: number;
}

export interface PostgresReport {
  readonly healthy: boolean;
  readonly error: string | null;
  /** ISO 8601. */
  readonly lastCheck: string;
  readonly version: string | null;
  readonly state: "no-data" | "stopped" | "starting" | "unresponsive" | "primary" | "standby";
  readonly job: { readonly kind: string; readonly forMs: number; readonly progress: string | null } | null;
  readonly gate: "open" | "closed" | null;
  readonly syncNames: readonly string[] | null;
  /** `1@0/3000060,2` */
  readonly lineage: string | null;
  readonly timeline: number | null;
  readonly walEnd: string | null;
  readonly replayed: string | null;
  /** Of a standby: seconds since the commit time of the last transaction replayed, 0 where all received WAL is replayed; null: unknown. */
  readonly lagSeconds: number | null;
  readonly receiver: "none" | "connecting" | "streaming" | null;
  readonly clientSessions: number | null;
  /** Commits that wait for the sync at this moment. */
  readonly waitingCommits: number | null;
  /** Rows of pg_stat_replication, all columns, under the names of PostgreSQL 9.x (`sent_location` …), values as text. */
  readonly replication: readonly Readonly<Record<string, string | null>>[];
  readonly forksKept: number;
  /** Commits whose wait for the sync was cancelled since the server's start. */
  readonly cancelledWaits: number;
  /**
   * Of these, some are visible and not known to be with the sync; all lie before `upTo`, on that timeline. null: none. With null in it: where they end is not
   * known yet.
   */
  readonly inDoubt: { readonly timeline: number | null; readonly upTo: string | null } | null;
  /** Settings that are not as they must be. */
  readonly warnings: readonly string[];
}

/** A line of a sitter's log, as it keeps the last ones (GET /journal). */
export interface JournalEntry {
  /** By that machine's wall clock. */
  readonly wallMs: number;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}
