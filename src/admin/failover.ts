// How a change of the primary went: moments in the journal of the peer that took over, and what lies between them.

import type { JournalEntry } from "../status/report.ts";

export interface Phase {
  /** What was waited for. */
  readonly name: string;
  readonly ms: number;
  /** What makes it shorter. */
  readonly advice: string;
}

export interface Change {
  readonly generation: number;
  /** Ids. */
  readonly from: string;
  readonly to: string;
}

/** When each began to be so, by the wall clock of the peer that took over; undefined: its journal does not show it. */
interface Moments {
  readonly missed: number | undefined;
  readonly gone: number | undefined;
  readonly claimSent: number | undefined;
  readonly claimRead: number | undefined;
  readonly promoted: number | undefined;
  readonly amended: number | undefined;
  readonly open: number | undefined;
}

const PHASES: readonly {
  readonly name: string;
  readonly from: keyof Moments;
  readonly to: keyof Moments;
  readonly advice: string;
}[] = [
  {
    name: "until the primary counted as gone",
    from: "missed",
    to: "gone",
    advice:
      "a peer that refuses counts at once, a silent one when a second peer misses it too (D2): see that all sitters reach each other, then peers.silenceMinMs and, without a witness, zkCfg.opts.sessionTimeout",
  },
  {
    name: "until receiving had ended and the heir held all",
    from: "gone",
    to: "claimSent",
    advice: "the heir's disk and its link to the sync: it flushes what the sync has",
  },
  {
    name: "until the claim was read back from the store",
    from: "claimSent",
    to: "claimRead",
    advice: "the store's writes: a disk of its own for ZooKeeper's log, and its members near by",
  },
  {
    name: "until PostgreSQL was promoted",
    from: "claimRead",
    to: "promoted",
    advice: "replay that lags behind on the sync (long queries there, a slow disk); otherwise PostgreSQL's own time",
  },
  {
    name: "until the heir held the new timeline, and the state said so",
    from: "promoted",
    to: "amended",
    advice: "the heir's walreceiver, which goes over to the new timeline, and one write to the store",
  },
  {
    name: "until clients were let in",
    from: "amended",
    to: "open",
    advice: "one reload of PostgreSQL's settings",
  },
];

/** In order; a phase of which a moment is missing is left out. `entries`: of the peer that took over, oldest first. */
export function phasesOf(entries: readonly JournalEntry[], change: Change): readonly Phase[] {
  const moments = momentsOf(entries, change);
  return PHASES.flatMap(({ name, from, to, advice }) => {
    const [begin, end] = [moments[from], moments[to]];
    return begin === undefined || end === undefined ? [] : [{ name, ms: Math.max(0, end - begin), advice }];
  });
}

/** From the first sign to the open gate; undefined: the journal does not reach back. */
export function spanOf(
  entries: readonly JournalEntry[],
  change: Change,
): { readonly begin: number; readonly end: number } | undefined {
  const moments = Object.values(momentsOf(entries, change)).filter((moment) => moment !== undefined);
  return moments.length === 0 ? undefined : { begin: Math.min(...moments), end: Math.max(...moments) };
}

function momentsOf(entries: readonly JournalEntry[], { generation, from }: Change): Moments {
  const at = (index: number) => (index < 0 ? undefined : entries[index]?.wallMs);
  const reads = (entry: JournalEntry) => entry.message === "state read" && entry.fields["generation"] === generation;
  const read = entries.findIndex((entry) => reads(entry) && entry.fields["role"] === "primary");
  if (read < 0) return NONE;
  const before = entries.slice(0, read);
  const after = entries.slice(read);
  const isTakeover = ({ message, fields }: JournalEntry) =>
    message === "decision" && (fields["rule"] === "T1" || fields["rule"] === "T3");
  const isPrimary = ({ message, fields }: JournalEntry) => message === "PostgreSQL" && fields["is"] === "primary";
  return {
    missed: firstOfRun(
      before.filter(({ message, fields }) => message === "evidence about a peer" && fields["peer"] === from),
      ({ fields }) => fields["sitter"] !== "answers",
    )?.wallMs,
    gone: firstOfRun(
      before.filter(({ message }) => message === "decision"),
      isTakeover,
    )?.wallMs,
    claimSent: at(before.findLastIndex((entry) => isTakeover(entry) && entry.fields["action"] === "write")),
    claimRead: at(read),
    promoted: after.find(isPrimary)?.wallMs,
    amended: after.find((entry) => reads(entry) && entry.fields["provisional"] === undefined)?.wallMs,
    open: after.find((entry) => isPrimary(entry) && entry.fields["gate"] === "open")?.wallMs,
  };
}

const NONE: Moments = {
  missed: undefined,
  gone: undefined,
  claimSent: undefined,
  claimRead: undefined,
  promoted: undefined,
  amended: undefined,
  open: undefined,
};

/** Of the entries at the end that are all so, the first. */
function firstOfRun(
  entries: readonly JournalEntry[],
  holds: (entry: JournalEntry) => boolean,
): JournalEntry | undefined {
  const last = entries.findLastIndex((entry) => !holds(entry));
  return entries[last + 1];
}
