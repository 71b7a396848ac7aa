// What the peers say of themselves, asked on their status services again and again.

import type { PeerReport } from "../src/status/report.ts";
import type { Peer } from "./shard.ts";

/** null: its sitter does not answer. */
export type Reports = ReadonlyMap<Peer, PeerReport | null>;

/** Of one question. */
const limitMs = 1_000;

export class Watch {
  readonly peers: readonly Peer[];
  reports: Reports = new Map();
  #stopped = false;
  readonly #listeners = new Set<(reports: Reports) => void>();

  constructor(peers: readonly Peer[]) {
    this.peers = peers;
  }

  /** Asks all, waits `everyMs`, asks again. */
  async run(everyMs: number): Promise<void> {
    while (!this.#stopped) {
      const answers = await Promise.all(this.peers.map(async (peer) => [peer, await reportOf(peer)] as const));
      if (this.#stopped) return;
      this.reports = new Map(answers);
      for (const listener of this.#listeners) listener(this.reports);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  onReports(listener: (reports: Reports) => void): void {
    this.#listeners.add(listener);
  }

  /** Resolves at the first reports for which the condition holds; rejects past the limit. */
  until(what: string, condition: (reports: Reports) => boolean, withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        settle();
      };
      const look = (reports: Reports) => condition(reports) && done(resolve);
      const timer = setTimeout(
        () => done(() => reject(new Error(`${what}: not within ${withinMs / 1000} s`))),
        withinMs,
      );
      this.#listeners.add(look);
      look(this.reports);
    });
  }

  /** The peer that says that it is the primary, of the newest generation. */
  primary(): Peer | undefined {
    const claims = [...this.reports].filter(([, report]) => report?.role === "primary");
    return claims.sort(([, a], [, b]) => (b?.generation ?? 0) - (a?.generation ?? 0))[0]?.[0];
  }

  generation(): number | undefined {
    const known = [...this.reports.values()].flatMap((report) => (report?.generation ? [report.generation] : []));
    return known.length > 0 ? Math.max(...known) : undefined;
  }
}

/** In the chain's order; those without a place in it last. */
export function inOrder(reports: Reports): [Peer, PeerReport | null][] {
  const order = ["primary", "sync", "async", "none", "deposed"];
  const rank = (report: PeerReport | null) => (report?.role ? order.indexOf(report.role) : order.length);
  return [...reports].sort(([, a], [, b]) => rank(a) - rank(b));
}

/** Everybody has a place in the chain, the primary is open to clients and the standbys receive. */
export function isWhole(reports: Reports): boolean {
  const roles = [...reports.values()].map((report) => report?.role);
  return (
    roles.filter((role) => role === "primary").length === 1 &&
    roles.filter((role) => role === "sync").length === 1 &&
    roles.every((role) => role === "primary" || role === "sync" || role === "async") &&
    [...reports.values()].every((report) =>
      report?.role === "primary" ? report.postgres.gate === "open" : report?.postgres.receiver === "streaming",
    )
  );
}

async function reportOf(peer: Peer): Promise<PeerReport | null> {
  try {
    const answer = await fetch(`http://127.0.0.1:${peer.statusPort}/state`, { signal: AbortSignal.timeout(limitMs) });
    const report = (await answer.json()) as Partial<PeerReport>;
    // A sitter that has not looked at its PostgreSQL yet says less.
    return answer.ok && report.postgres && report.decision ? (report as PeerReport) : null;
  } catch {
    return null;
  }
}
