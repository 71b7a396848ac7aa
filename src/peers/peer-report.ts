// What is read out of a neighbour's report. Its sender may be of another version: only what is used here is demanded of it.

import { z } from "zod";
import { parseJson } from "../base/json.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";

export interface NeighbourReport {
  readonly id: PeerId;
  /** Names one run of a sitter; undefined: an older version. */
  readonly run: string | undefined;
  readonly postgresHealthy: boolean;
  readonly silent: readonly { readonly id: PeerId; readonly forMs: Ms }[];
}

const schema = z.object({
  id: z.string(),
  run: z.string().optional(),
  postgres: z.object({ healthy: z.boolean() }),
  silent: z.array(z.object({ id: z.string(), forMs: z.number() })).default([]),
});

/** undefined: not a report of a sitter of ours (the original's has another shape). */
export function parsePeerReport(body: string): NeighbourReport | undefined {
  const parsed = schema.safeParse(parseJson(body));
  if (!parsed.success) return undefined;
  const { id, run, postgres, silent } = parsed.data;
  return { id, run, postgresHealthy: postgres.healthy, silent };
}
