// What stands in a request to rebuild a peer: written by manatee-adm, read by the sitter, perhaps of another version. Empty, or without `from` and `full`, it is
// one of before there were these.

import * as z from "zod";
import { ManateeError } from "../base/errors.ts";
import { parsePeerId } from "../base/peer-id.ts";
import type { RebuildWish } from "../cluster/rejoin-way.ts";

const requestSchema = z.object({
  requestedAt: z.string().optional(),
  by: z.string().optional(),
  /** A peer's id. */
  from: z
    .string()
    .refine((id) => parsePeerId(id) !== undefined, "is no peer's id")
    .nullish(),
  full: z.boolean().nullish(),
});

export function formatRebuildRequest(request: RebuildWish & { readonly requestedAt: string; readonly by: string }) {
  const { requestedAt, by, from, full } = request;
  return `${JSON.stringify({ requestedAt, by, ...(from !== undefined && { from }), ...(full && { full }) })}\n`;
}

/** Errors: `REBUILD_REQUEST_UNREADABLE`. What it would do is not guessed at: a copy from the wrong peer can't be taken back. */
export function parseRebuildRequest(text: string): RebuildWish {
  if (text.trim() === "") return { from: undefined, full: false };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw unreadable("it is no JSON", cause);
  }
  const parsed = requestSchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw unreadable(
      [issue?.path.join("."), issue?.message].filter((part) => part !== undefined && part !== "").join(": "),
    );
  }
  return { from: parsed.data.from ?? undefined, full: parsed.data.full ?? false };
}

function unreadable(what: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "REBUILD_REQUEST_UNREADABLE",
    message: `the request to rebuild this peer can't be understood: ${what}`,
    remedy: "operator",
    hint: "Ask again with manatee-adm rebuild, or remove the file; nothing is done meanwhile.",
    cause,
  });
}
