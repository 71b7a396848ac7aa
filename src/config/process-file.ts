// Reads the file of a process beside the sitter, by its schema.

import type * as z from "zod";
import { readConfigJson } from "./json.ts";
import { type ConfigProblem, problemsOf } from "./problems.ts";
import { keysOf, namesByPath } from "./schema.ts";

export type FileResult<T> =
  | { readonly kind: "valid"; readonly file: string; readonly config: T }
  | { readonly kind: "invalid"; readonly file: string; readonly problems: readonly ConfigProblem[] };

export function readWith<T extends z.ZodObject>(
  schema: T,
  { json, file }: { json: string; file: string },
): FileResult<z.output<T>> {
  const read = readConfigJson(json);
  if (read.kind === "invalid") return { kind: "invalid", file, problems: read.problems };
  const parsed = schema.safeParse(read.value, { reportInput: true });
  if (parsed.success) return { kind: "valid", file, config: parsed.data };
  return { kind: "invalid", file, problems: problemsOf(parsed.error.issues, namesByPath(keysOf(schema))) };
}
