// The status service: what tools, health checks and the neighbours' sitters ask over HTTP. It answers from what the sitter knows already;
// a PostgreSQL or a store that hangs does not make it slow.

import { Hono } from "hono";
import type { JournalEntry, PeerReport } from "./report.ts";

export interface StatusSource {
  /** undefined: nothing was observed yet. Never waits. */
  report(): PeerReport | undefined;
  /** By the wall clock, both ends included; oldest first. */
  journal(between: { readonly fromWallMs: number; readonly toWallMs: number }): readonly JournalEntry[];
  /** Since the sitter's last look was complete. */
  roundAgeMs(): number;
}

/** A look is bounded by the limits of its parts; one that takes so long means that the sitter is stuck. */
const LIVE_LIMIT_MS = 120_000;

const ROUTES = {
  "/": "this list",
  "/ping": "200 if PostgreSQL is healthy, else 503",
  "/state": "what this sitter knows, decides and waits for",
  "/restore": "the copy or roll-back under way, or null",
  "/journal": "the last lines of the log; ?from=MS&to=MS since the epoch",
  "/live": "200 if the sitter itself goes on, else 503",
};

/** Jobs that put other content in the place of this peer's. */
const RESTORES: ReadonlySet<string> = new Set(["copy", "rewind", "roll-back"]);

const NOTHING_YET = "nothing was observed yet: the sitter is starting";

export function statusService(source: StatusSource): Hono {
  const app = new Hono();
  app.get("/", (c) => c.json({ routes: ROUTES }));
  app.get("/ping", (c) => {
    const postgres = source.report()?.postgres;
    if (!postgres) return c.json({ healthy: false, error: NOTHING_YET, lastCheck: null }, 503);
    const { healthy, error, lastCheck } = postgres;
    return c.json({ healthy, error, lastCheck }, healthy ? 200 : 503);
  });
  app.get("/state", (c) => {
    const report = source.report();
    return report ? c.json(report) : c.json({ error: NOTHING_YET }, 503);
  });
  app.get("/restore", (c) => {
    const job = source.report()?.postgres.job;
    return c.json({ restore: job && RESTORES.has(job.kind) ? job : null });
  });
  app.get("/journal", (c) => {
    const at = (name: string, otherwise: number) => {
      const given = Number(c.req.query(name) ?? Number.NaN);
      return Number.isFinite(given) ? given : otherwise;
    };
    return c.json({ entries: source.journal({ fromWallMs: at("from", 0), toWallMs: at("to", Number.MAX_VALUE) }) });
  });
  app.get("/live", (c) => {
    const ageMs = Math.round(source.roundAgeMs());
    const live = ageMs < LIVE_LIMIT_MS;
    return c.json({ live, lastLookMs: ageMs }, live ? 200 : 503);
  });
  app.notFound((c) => c.json({ error: `no such route: ${c.req.path}`, routes: ROUTES }, 404));
  return app;
}
