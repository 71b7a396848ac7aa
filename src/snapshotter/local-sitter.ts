// What the sitter on this machine knows: who belongs to the shard, and where its WAL ends. Asked over its status service, as everybody asks it.

import * as z from "zod";
import { ManateeError } from "../base/errors.ts";
import type { WalPoint } from "../base/lineage.ts";
import type { Ms } from "../base/units.ts";
import { decodeState } from "../cluster/codec.ts";
import { membersOf } from "../cluster/state.ts";
import type { Network } from "../world/port.ts";

const ASK_LIMIT_MS: Ms = 5_000;

/** Its sitter may be of another version: only what is used is demanded. */
const reportSchema = z.object({
  generation: z.number().nullish(),
  incarnation: z.string().nullish(),
  role: z.string().nullish(),
  systemIdentifier: z.string().nullish(),
  lastDocument: z.object({ json: z.string() }).nullish(),
  postgres: z.object({
    lastCheck: z.string(),
    timeline: z.number().nullish(),
    walEnd: z.string().nullish(),
  }),
});

/** Where the WAL ended at one look of the sitter's. */
export interface WalPosition {
  /** When it looked, by this machine's wall clock. */
  readonly lookedWallMs: number;
  readonly timeline: number;
  /** `X/Y` */
  readonly walEnd: string;
  readonly role: string | undefined;
  readonly generation: number | undefined;
  readonly systemIdentifier: string | undefined;
  /** Of the data at that look: renewed before its content is replaced. */
  readonly incarnation: string | undefined;
}

export interface LocalSitter {
  /** By the last document that it saw; nobody where it saw none. @throws `SNAPSHOT_SITTER_SILENT` */
  peerAddresses(): Promise<ReadonlySet<string>>;
  /** undefined: it does not know (PostgreSQL does not run). @throws `SNAPSHOT_SITTER_SILENT` */
  walPosition(): Promise<WalPosition | undefined>;
  /** What a snapshotter acts on; undefined: the sitter has seen no document yet. @throws `SNAPSHOT_SITTER_SILENT` */
  place(): Promise<ShardPlace | undefined>;
}

/** Where this peer stands in its shard. */
export interface ShardPlace {
  readonly role: string;
  readonly generation: number;
  /** Where that generation begins. */
  readonly begin: WalPoint;
}

export function localSitter(network: Network, { host, port }: { host: string; port: number }): LocalSitter {
  const report = async () => {
    const answer = await network.httpGet({ host, port, path: "/state", limitMs: ASK_LIMIT_MS });
    const parsed = typeof answer === "string" || answer.status !== 200 ? undefined : parse(answer.body);
    if (parsed) return parsed;
    throw sitterSilent(`${host}:${port}`);
  };
  return {
    async peerAddresses() {
      const { lastDocument } = await report();
      if (!lastDocument) return new Set();
      const decoded = decodeState(lastDocument.json);
      return decoded.kind === "unreadable" ? new Set() : new Set(membersOf(decoded.state).map(({ ip }) => ip));
    },
    async place() {
      const { role, lastDocument } = await report();
      const decoded = lastDocument && decodeState(lastDocument.json);
      if (!decoded || decoded.kind === "unreadable") return undefined;
      const { generation, initTimeline, initWal } = decoded.state;
      return { role: role ?? "none", generation, begin: { timeline: initTimeline, lsn: initWal } };
    },
    async walPosition() {
      const { postgres, role, generation, systemIdentifier, incarnation } = await report();
      const lookedWallMs = Date.parse(postgres.lastCheck);
      if (Number.isNaN(lookedWallMs) || typeof postgres.timeline !== "number" || !postgres.walEnd) return undefined;
      return {
        lookedWallMs,
        timeline: postgres.timeline,
        walEnd: postgres.walEnd,
        role: role ?? undefined,
        generation: generation ?? undefined,
        systemIdentifier: systemIdentifier ?? undefined,
        incarnation: incarnation ?? undefined,
      };
    },
  };
}

function parse(body: string): z.output<typeof reportSchema> | undefined {
  try {
    return reportSchema.parse(JSON.parse(body));
  } catch {
    return undefined;
  }
}

function sitterSilent(at: string): ManateeError {
  return new ManateeError({
    code: "SNAPSHOT_SITTER_SILENT",
    message: `the sitter's status service at ${at} does not tell what it knows`,
    remedy: "retry",
    hint: "Start the sitter on this machine, or correct sitterHost and sitterPort.",
  });
}
