// What is wrong with a configuration, in words: the key's path, what is wrong, and the way out.

import type * as z from "zod";
import { nearest } from "./suggest.ts";

export interface ConfigProblem {
  /** `postgres.dataDir`; empty: the whole file. */
  readonly key: string;
  readonly message: string;
  readonly hint: string;
}

/** Names of the keys that may stand at a path of the file. */
export type KnownKeys = ReadonlyMap<string, readonly string[]>;

/** One for each key: a second thing wrong with the same value only confuses. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], known: KnownKeys): ConfigProblem[] {
  const all = issues.flatMap((issue) => problemOf(issue, known));
  return all.filter((problem, at) => all.findIndex(({ key }) => key === problem.key) === at);
}

function problemOf(issue: z.core.$ZodIssue, known: KnownKeys): ConfigProblem[] {
  const at = issue.path.map(String).join(".");
  if (issue.code === "unrecognized_keys") return issue.keys.map((name) => unknownKey(at, name, known));
  if (issue.code === "invalid_type" && issue.input === undefined && at !== "")
    return [{ key: at, message: "is missing", hint: `add ${at}; docs/configuration.md says what it is` }];
  if (issue.code === "invalid_type" && !issue.message.startsWith("must"))
    return [{ key: at, message: `must be ${aWord(issue.expected)}`, hint: hintFor(at) }];
  return [{ key: at, message: issue.message, hint: hintFor(at) }];
}

function unknownKey(at: string, name: string, known: KnownKeys): ConfigProblem {
  const key = at === "" ? name : `${at}.${name}`;
  const here = known.get(at) ?? [];
  const elsewhere = [...known].find(([path, names]) => path !== at && names.includes(name));
  if (elsewhere !== undefined && !here.includes(name)) {
    const place = elsewhere[0] === "" ? "at the top of the file" : `under ${elsewhere[0]}`;
    return { key, message: "is not a key that stands here", hint: `${name} belongs ${place}` };
  }
  const meant = nearest(name, here);
  const hint =
    meant === undefined
      ? `remove it, or begin it with // to make it a comment; known here: ${here.join(", ")}`
      : `did you mean ${at === "" ? meant : `${at}.${meant}`}?`;
  return { key, message: "is not a known key", hint };
}

function aWord(expected: string): string {
  if (expected === "object" || expected === "record") return "an object { … }";
  if (expected === "string") return "a text in quotation marks";
  return `a ${expected}`;
}

function hintFor(at: string): string {
  return at === "" ? "see docs/configuration.md" : `correct ${at}; docs/configuration.md says what it takes`;
}

export function formatProblem(file: string, { key, message, hint }: ConfigProblem): string {
  return `${file}: ${key === "" ? "" : `${key} `}${message} (${hint})`;
}
