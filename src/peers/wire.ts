// What two sitters tell each other over their stream: one line a message, JSON, of bounded length. Its sender may be of another version: only what is
// used is demanded, and fields that are not known are passed over.

import { z } from "zod";
import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";

/** Raised when a message changes its meaning; fields may be added without that. */
export const STREAM_VERSION = 1;
/** Characters. With a hundred peers in each list a message stays below a quarter of it. */
export const LINE_LENGTH_MAX = 65_536;

const id = z.string().min(1).max(100);
const nonce = z.string().regex(/^[0-9a-f]{64}$/);
const proof = z.string().regex(/^[0-9a-f]{64}$/);
const LIST_MAX = 1_000;

/** The side that opened the connection begins. */
const helloSchema = z.object({
  version: z.number().int(),
  shard: z.string().max(500),
  id,
  to: id,
  run: z.string().max(100),
  nonce,
});
const challengeSchema = z.object({ version: z.number().int(), id, run: z.string().max(100), nonce, proof });
const answerSchema = z.object({ proof });

/** What a sitter says of itself and of what it sees; whole whenever something of it is new. */
export interface Statement {
  readonly postgresHealthy: boolean;
  readonly role: string | undefined;
  /** Of the document as it knows it. */
  readonly generation: number | undefined;
  /** `TIMELINE@END` */
  readonly wal: string | undefined;
  /** T2: the generation that it gives up. */
  readonly abdicates: number | undefined;
  /** Its sitter is being stopped; `host`: with its PostgreSQL. */
  readonly leaving: "sitter" | "host" | undefined;
  /** Peers that are silent for it on every channel, past the limit that it has learned for them (D2's second witness). */
  readonly silent: readonly { readonly id: PeerId; readonly forMs: Ms }[];
  /** Peers whose connection has just broken or gone quiet there: a reason to look at them. */
  readonly doubts: readonly PeerId[];
}

const statementSchema = z.object({
  postgresHealthy: z.boolean(),
  role: z.string().max(20).optional(),
  generation: z.number().int().optional(),
  wal: z.string().max(100).optional(),
  abdicates: z.number().int().optional(),
  leaving: z.enum(["sitter", "host"]).optional().catch(undefined),
  silent: z.array(z.object({ id, forMs: z.number().nonnegative() })).max(LIST_MAX),
  doubts: z.array(id).max(LIST_MAX).default([]),
});

const beatSchema = z.object({
  /** Counts the sender's messages, from 1. */
  beat: z.number().int().positive(),
  /** The receiver's newest message that the sender has had. */
  heard: z.number().int().nonnegative(),
  says: statementSchema.optional(),
});

export type Hello = z.output<typeof helloSchema>;
export type Challenge = z.output<typeof challengeSchema>;
export interface Beat {
  readonly beat: number;
  readonly heard: number;
  readonly says: Statement | undefined;
}

export const parseHello = (line: string): Hello | undefined => parse(helloSchema, line);
export const parseChallenge = (line: string): Challenge | undefined => parse(challengeSchema, line);
export const parseAnswer = (line: string): { proof: string } | undefined => parse(answerSchema, line);

export function parseBeat(line: string): Beat | undefined {
  const parsed = parse(beatSchema, line);
  if (!parsed) return undefined;
  const { beat, heard, says } = parsed;
  if (!says) return { beat, heard, says: undefined };
  const { postgresHealthy, role, generation, wal, abdicates, leaving, silent, doubts } = says;
  return { beat, heard, says: { postgresHealthy, role, generation, wal, abdicates, leaving, silent, doubts } };
}

function parse<T extends z.ZodType>(schema: T, line: string): z.output<T> | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** Cuts what arrives into lines. */
export class Lines {
  #rest = "";

  /** The begin of a line that has not ended yet. */
  get rest(): string {
    return this.#rest;
  }

  /** undefined: a line is longer than it may be. */
  take(text: string): readonly string[] | undefined {
    const parts = (this.#rest + text).split("\n");
    this.#rest = parts.pop() ?? "";
    return [...parts, this.#rest].some(({ length }) => length > LINE_LENGTH_MAX) ? undefined : parts;
  }
}
