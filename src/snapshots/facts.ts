// What is known of a snapshot's content, as properties that stand with it: which WAL it can hold at most, of which database, why it was made, and whether it was shown to be
// restorable.

import { formatLsn, type Lsn, parseLsn, type Timeline } from "../base/lsn.ts";

export interface SnapshotFacts {
  readonly timeline: Timeline;
  /** Its content ends here or before: read after it was made. */
  readonly lsn: Lsn;
  readonly systemIdentifier: string;
  readonly role: string | undefined;
  readonly generation: number | undefined;
  /** In a few words. */
  readonly why: string;
}

/** What became of starting a clone of it. */
export interface Verdict {
  readonly passed: boolean;
  readonly wallMs: number;
  /** What was checked; or why it failed. */
  readonly text: string;
}

const PREFIX = "manatee:";
/** Marks what Manatee made. */
export const WHY_PROPERTY = `${PREFIX}why`;
const VERDICT_PROPERTY = `${PREFIX}verified`;
const VALUE_MAX = 1000;
const REFUSED = "refused ";

type Properties = Readonly<Record<string, string>>;

export function encodeFacts(facts: SnapshotFacts): Properties {
  const { timeline, lsn, systemIdentifier, role, generation, why } = facts;
  return {
    [`${PREFIX}timeline`]: String(timeline),
    [`${PREFIX}lsn`]: formatLsn(lsn),
    [`${PREFIX}system`]: systemIdentifier,
    [WHY_PROPERTY]: why,
    ...(role !== undefined && { [`${PREFIX}role`]: role }),
    ...(generation !== undefined && { [`${PREFIX}generation`]: String(generation) }),
  };
}

/** undefined: they are not all there, or not what we write. Such a snapshot serves nobody. */
export function decodeFacts(properties: Properties): SnapshotFacts | undefined {
  const value = (name: string) => properties[PREFIX + name];
  const lsn = parseLsn(value("lsn") ?? "");
  const timeline = wholeNumber(value("timeline"));
  const systemIdentifier = value("system");
  if (lsn === undefined || timeline === undefined || timeline < 1 || !systemIdentifier) return undefined;
  const generation = wholeNumber(value("generation"));
  return { timeline, lsn, systemIdentifier, role: value("role"), generation, why: value("why") ?? "" };
}

export function encodeVerdict({ passed, wallMs, text }: Verdict): Properties {
  return { [VERDICT_PROPERTY]: `${passed ? "passed" : "failed"} ${Math.round(wallMs)} ${plain(text)}` };
}

/** undefined: it was not verified. */
export function verdictOf(properties: Properties): Verdict | undefined {
  const match = /^(passed|failed) (\d+) (.*)$/.exec(properties[VERDICT_PROPERTY] ?? "");
  return match ? { passed: match[1] === "passed", wallMs: Number(match[2]), text: match[3] as string } : undefined;
}

/** No verdict: it can't be verified, and that is the reason. */
export function encodeRefusal(reason: string): Properties {
  return { [VERDICT_PROPERTY]: `${REFUSED}${plain(reason)}` };
}

/** undefined: it was verified, or not tried. */
export function refusalOf(properties: Properties): string | undefined {
  const value = properties[VERDICT_PROPERTY];
  return value?.startsWith(REFUSED) ? value.slice(REFUSED.length) : undefined;
}

function plain(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, " ").slice(0, VALUE_MAX);
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}
