// A sitter's report as it comes over the wire. Sitters of other versions may say less, or more: what is missing is null, what is unknown is left out.

import * as z from "zod";
import { parseJson } from "../base/json.ts";
import type { JournalEntry, PeerReport } from "../status/report.ts";

const maybeText = z.string().nullable().catch(null);
const maybeNumber = z.number().nullable().catch(null);

const decision = z.object({
  rule: z.string(),
  because: z.string(),
  waitingOn: maybeText,
  operator: maybeText,
  forMs: z.number().catch(0),
});

const postgres = z.object({
  healthy: z.boolean(),
  error: maybeText,
  lastCheck: z.string().catch(""),
  version: maybeText,
  state: z.enum(["no-data", "stopped", "starting", "unresponsive", "primary", "standby"]),
  job: z.object({ kind: z.string(), forMs: z.number(), progress: maybeText }).nullable().catch(null),
  gate: z.enum(["open", "closed"]).nullable().catch(null),
  syncNames: z.array(z.string()).nullable().catch(null),
  lineage: maybeText,
  timeline: maybeNumber,
  walEnd: maybeText,
  replayed: maybeText,
  lagSeconds: maybeNumber,
  receiver: z.enum(["none", "connecting", "streaming"]).nullable().catch(null),
  clientSessions: maybeNumber,
  waitingCommits: maybeNumber,
  replication: z.array(z.record(z.string(), z.string().nullable())).catch([]),
  forksKept: z.number().catch(0),
  cancelledWaits: z.number().catch(0),
  inDoubt: z.object({ timeline: maybeNumber, upTo: maybeText }).nullable().catch(null),
  warnings: z.array(z.string()).catch([]),
});

const report = z.object({
  run: z.string().catch(""),
  id: z.string(),
  zoneId: z.string(),
  shard: z.string(),
  pgUrl: z.string(),
  incarnation: maybeText,
  systemIdentifier: maybeText,
  generation: maybeNumber,
  version: maybeNumber,
  role: z.enum(["primary", "sync", "async", "deposed", "none"]).nullable().catch(null),
  decision,
  store: z.object({
    connected: z.boolean(),
    sinceMs: z.number().catch(0),
    evaluationOnly: z.boolean().catch(false),
    openToAll: z.boolean().nullable().catch(null),
  }),
  postgres,
  silent: z.array(z.object({ id: z.string(), forMs: z.number() })).catch([]),
  forksKeptMax: maybeNumber,
  lastDocument: z.object({ version: z.number(), json: z.string() }).nullish().catch(null),
});

/** undefined: not a report of a sitter of ours. */
export function parsePeerReport(body: string): PeerReport | undefined {
  const parsed = report.safeParse(parseJson(body));
  if (!parsed.success) return undefined;
  const { lastDocument, ...rest } = parsed.data;
  return { ...rest, ...(lastDocument === undefined ? {} : { lastDocument }) };
}

const journal = z.object({
  entries: z.array(z.object({ wallMs: z.number(), message: z.string(), fields: z.record(z.string(), z.unknown()) })),
});

/** undefined: it is none. */
export function parseJournal(body: string): readonly JournalEntry[] | undefined {
  try {
    return journal.parse(JSON.parse(body)).entries;
  } catch {
    return undefined;
  }
}
