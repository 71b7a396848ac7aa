// The files' JSON: keys that begin with // are comments and may repeat; a real key that is there twice is a mistake.

import type { ConfigProblem } from "./problems.ts";

export type JsonResult =
  | { readonly kind: "value"; readonly value: unknown }
  | { readonly kind: "invalid"; readonly problems: readonly ConfigProblem[] };

export function readConfigJson(json: string): JsonResult {
  let value: unknown;
  try {
    value = JSON.parse(json.replace(/^\uFEFF/, ""));
  } catch (error) {
    return {
      kind: "invalid",
      problems: [
        {
          key: "",
          message: `is not JSON${whereIn(json, error)}`,
          hint: "correct the syntax there; a comma after the last entry and comments outside of keys are not allowed",
        },
      ],
    };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return {
      kind: "invalid",
      problems: [
        { key: "", message: "holds no object", hint: "it begins with { and ends with }; see etc/ for samples" },
      ],
    };
  const twice = repeatedKeys(json);
  if (twice.length > 0)
    return {
      kind: "invalid",
      problems: twice.map((key) => ({
        key,
        message: "is there twice",
        hint: "remove one of the two: the first would silently not count",
      })),
    };
  return { kind: "value", value: withoutComments(value) };
}

function withoutComments(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutComments);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !key.startsWith("//"))
      .map(([key, inner]) => [key, withoutComments(inner)]),
  );
}

/** Paths of the keys that JSON.parse dropped because the same one came again. Takes valid JSON. */
function repeatedKeys(json: string): string[] {
  const repeated: string[] = [];
  const open: { readonly path: string; readonly seen: Set<string> | undefined }[] = [];
  let key = "";
  for (const match of json.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|[{}[\]]/g)) {
    const [token, string, colon] = match;
    const inside = open.at(-1);
    if (string !== undefined) {
      if (colon === undefined || inside?.seen === undefined) continue;
      key = String(JSON.parse(string));
      if (inside.seen.has(key) && !key.startsWith("//")) repeated.push(pathOf(inside.path, key));
      inside.seen.add(key);
    } else if (token === "{" || token === "[")
      open.push({
        path: inside === undefined ? "" : pathOf(inside.path, key),
        seen: token === "{" ? new Set() : undefined,
      });
    else open.pop();
  }
  return repeated;
}

function pathOf(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

/** Engines say it as "position N"; people count lines. Never the text around it: it may be a password. */
function whereIn(json: string, error: unknown): string {
  const position = /position (\d+)/.exec(error instanceof Error ? error.message : "")?.[1];
  if (position === undefined) return "";
  const lines = json.slice(0, Number(position)).split("\n");
  return ` (line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1})`;
}
