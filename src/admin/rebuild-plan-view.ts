// What a rebuild would do, as it is printed.

import type { PeerId } from "../base/peer-id.ts";
import type { Known, RebuildPlan } from "../postgres/rebuild-plan.ts";
import { size } from "./snapshot-rows.ts";

export interface RebuildView {
  /** zoneIds. */
  readonly peer: string;
  readonly nameOf: (id: PeerId) => string;
  readonly plan: RebuildPlan;
  readonly waits: readonly string[];
}

const IN_WORDS = {
  "roll-back": "roll-back",
  rewind: "pg_rewind",
  seed: "a snapshot from its backup server",
  "base-backup": "base backup",
} as const;

/** Why nothing would begin, with the way out. */
function waitsOf({ plan, waits }: RebuildView): readonly string[] {
  const { fork } = plan;
  return fork?.waits === undefined
    ? waits
    : [...waits, `${fork.waits} (see manatee-adm diverged, and --drop a fork that holds nothing you need)`];
}

export function planLines(view: RebuildView): readonly string[] {
  const { plan, peer, nameOf } = view;
  const { way, snapshot, bytes, durationMs, fork } = plan;
  const what = way === "roll-back" ? "of its own WAL put back; the rest is streamed" : "copied";
  return [
    `Way:     ${IN_WORDS[way]}${snapshot === undefined ? "" : ` to snapshot ${snapshot}`}, from ${nameOf(plan.from)}`,
    ...plan.passedOver.map(({ way: other, because }) => `         not by ${IN_WORDS[other]}: ${because}`),
    `Size:    ${inWords(bytes, (value) => `about ${size(value)} ${what}`)}`,
    `Time:    ${inWords(durationMs, (value) => `about ${(value / 1000).toFixed(1)} s, by the last one on this peer`)}`,
    fork === undefined
      ? `Fork:    none: ${peer} holds nothing that could be kept`
      : `Fork:    kept as ${inWords(fork.name, (name) => name)}, a ${fork.kind} of ${inWords(fork.bytes, size)} at first; ${inWords(fork.kept, String)} of at most ${fork.keptMax} are kept now`,
    ...waitsOf(view).map((what) => `Waits:   ${what}`),
    ...plan.assumed.map((what) => `Unknown: ${what}`),
  ];
}

export const PLAN_FIELDS = [
  "peer",
  "from",
  "way",
  "snapshot",
  "bytes",
  "bytesUnknown",
  "durationMs",
  "durationUnknown",
  "passedOver",
  "fork",
  "waits",
  "unknown",
] as const;

export function planJson(view: RebuildView): string {
  const { plan, peer, nameOf } = view;
  const { fork } = plan;
  const fields: Readonly<Record<(typeof PLAN_FIELDS)[number], unknown>> = {
    peer,
    from: nameOf(plan.from),
    way: plan.way,
    snapshot: plan.snapshot ?? null,
    bytes: valueOf(plan.bytes),
    bytesUnknown: reasonOf(plan.bytes),
    durationMs: plan.durationMs.kind === "known" ? Math.round(plan.durationMs.value) : null,
    durationUnknown: reasonOf(plan.durationMs),
    passedOver: plan.passedOver,
    fork: fork
      ? {
          name: valueOf(fork.name),
          kind: fork.kind,
          bytes: valueOf(fork.bytes),
          kept: valueOf(fork.kept),
          keptMax: fork.keptMax,
          waits: fork.waits ?? null,
        }
      : null,
    waits: waitsOf(view),
    unknown: plan.assumed,
  };
  return JSON.stringify(fields, undefined, 2);
}

function valueOf<T>(fact: Known<T>): T | null {
  return fact.kind === "known" ? fact.value : null;
}

function reasonOf(fact: Known<unknown>): string | null {
  return fact.kind === "unknown" ? fact.because : null;
}

function inWords<T>(fact: Known<T>, say: (value: T) => string): string {
  return fact.kind === "known" ? say(fact.value) : `unknown (${fact.because})`;
}
