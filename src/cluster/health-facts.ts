// What the verdict on a shard is made from, and what it is made of.

import type { PeerId } from "../base/peer-id.ts";
import type { RuleName } from "./decision.ts";
import type { ElectionEntry, ShardView } from "./observation.ts";

/**
 * `error`: service is affected, or soon would be without the promise being kept. `warning`: service is there, somebody should
 * look. `note`: good to know; never affects an exit status.
 */
export type Severity = "error" | "warning" | "note";

export interface Finding {
  readonly severity: Severity;
  readonly rule: RuleName | undefined;
  /** The peer it is about. */
  readonly peer: PeerId | undefined;
  readonly message: string;
  /** What to do, as an imperative sentence. */
  readonly remedy: string;
}

/** What became of asking a peer. `silent`: nothing in time; `stranger`: something else answers there. */
export type SitterAnswer = "answers" | "refused" | "silent" | "stranger";

export interface PeerFacts {
  readonly sitter: SitterAnswer;
  /** Asked where the sitter does not answer. */
  readonly postgresPort: "open" | "refused" | "silent" | undefined;
  readonly report: ReportedFacts | undefined;
}

/** Of a sitter's report what matters here. */
export interface ReportedFacts {
  readonly shard: string;
  readonly incarnation: string | null;
  readonly systemIdentifier: string | null;
  readonly generation: number | null;
  readonly decision: {
    readonly rule: string;
    readonly because: string;
    readonly waitingOn: string | null;
    readonly operator: string | null;
  };
  readonly store: { readonly connected: boolean; readonly evaluationOnly: boolean; readonly openToAll: boolean | null };
  readonly postgres: {
    readonly healthy: boolean;
    readonly error: string | null;
    readonly state: string;
    readonly gate: "open" | "closed" | null;
    readonly syncNames: readonly string[] | null;
    readonly receiver: string | null;
    readonly lagSeconds: number | null;
    readonly replication: readonly Readonly<Record<string, string | null>>[];
    readonly forksKept: number;
    readonly walEnd: string | null;
    readonly waitingCommits: number | null;
    readonly cancelledWaits: number;
    readonly inDoubt: { readonly upTo: string | null } | null;
    readonly warnings: readonly string[];
  };
  /** Where it keeps that many forks already, the next one waits for an operator (I5). */
  readonly forksKeptMax?: number | null | undefined;
  /** Whether it keeps a copy of a document (B1). */
  readonly lastDocument?: { readonly version: number } | null | undefined;
}

export interface HealthFacts {
  readonly view: Exclude<ShardView, { kind: "unread" }>;
  readonly election: readonly ElectionEntry[];
  readonly peers: Readonly<Record<PeerId, PeerFacts>>;
  /** Wall clock: for the expiry of a request. */
  readonly wallMs: number;
  readonly historyEntries: number;
  /** Of the session by which this was read. */
  readonly evaluationOnly: boolean;
}

/** A standby further behind than that is worth a warning. */
export const LAG_SECONDS_MAX = 60;

export function finding(
  severity: Severity,
  message: string,
  remedy: string,
  more: { rule?: RuleName; peer?: PeerId } = {},
): Finding {
  return { severity, rule: more.rule, peer: more.peer, message, remedy };
}
