// What a run of chaos tells in the end, in Markdown.

import { cpus, release } from "node:os";
import { isoTime } from "../src/base/text.ts";
import { seconds, summarize } from "../bench/lib/statistics.ts";
import type { Kind } from "./schedule.ts";

export interface RoundResult {
  readonly number: number;
  readonly faults: readonly Kind[];
  /** How many the shard went through. */
  readonly generations: number;
  /** Acknowledged. */
  readonly inserts: number;
  readonly transactions: number;
  /** Of each episode: the longest time without an acknowledged insert. */
  readonly gapsMs: readonly number[];
  /** What was found; empty: nothing. */
  readonly problems: readonly string[];
}

export interface RunResult {
  readonly options: { readonly seed: number };
  readonly startedWallMs: number;
  readonly lastedMs: number;
  readonly rounds: readonly RoundResult[];
}

export function reportOf({ options, startedWallMs, lastedMs, rounds }: RunResult): string {
  const sum = (pick: (round: RoundResult) => number): number => rounds.reduce((all, round) => all + pick(round), 0);
  const faults = rounds.flatMap((round) => round.faults);
  const gaps = rounds.flatMap(({ gapsMs }) => gapsMs);
  const counts = [...new Set(faults)]
    .sort()
    .map((kind) => `| ${kind} | ${faults.filter((one) => one === kind).length} |`);
  const problems = rounds.flatMap(({ number, problems: found }) => found.map((text) => `Round ${number}: ${text}`));
  return [
    `# Chaos, seed ${options.seed}`,
    "",
    `${isoTime(startedWallMs)}, ${(lastedMs / 60_000).toFixed(1)} minutes, Linux ${release()}, ${cpus().length} cores (${cpus()[0]?.model ?? "?"}), Node ${process.version}.`,
    "",
    `\`${JSON.stringify(options)}\``,
    "",
    "| | |",
    "|---|---|",
    `| rounds | ${rounds.length} |`,
    `| episodes | ${gaps.length} |`,
    `| faults | ${faults.length} |`,
    `| generations | ${sum(({ generations }) => generations)} |`,
    `| inserts acknowledged | ${sum(({ inserts }) => inserts)} |`,
    `| transactions on lists acknowledged | ${sum(({ transactions }) => transactions)} |`,
    ...(gaps.length === 0
      ? []
      : [
          `| longest time without an acknowledged insert, median of the episodes | ${seconds(summarize(gaps).medianMs)} |`,
          `| the same, worst | ${seconds(summarize(gaps).worstMs)} |`,
        ]),
    `| found | ${problems.length} |`,
    "",
    ...(counts.length === 0 ? [] : ["| fault | times |", "|---|---|", ...counts, ""]),
    ...(problems.length === 0
      ? ["No acknowledged write lost, no observed value lost, no anomaly, every peer back by itself."]
      : ["## Found", "", ...problems.flatMap((text) => ["```", text, "```"])]),
    "",
  ].join("\n");
}
