import type { Command } from "commander";
import type { HistoryEntry } from "../../shard/port.ts";
import type { AdminContext } from "../context.ts";
import { withShard } from "../connect.ts";
import { isoTime } from "../../base/text.ts";
import { HISTORY_COLUMNS, historyRows, SUMMARY_COLUMN } from "../history-rows.ts";
import { examples, printTable } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { collect, isJson, tableJson } from "../table.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly json?: boolean;
  readonly sort?: string;
  readonly verbose?: boolean;
  readonly columns?: readonly string[];
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .option("-j, --json", "a line of JSON each: time, state, zkSeq")
    .option("--sort <FIELD>", "by zkSeq (the store's order) or time")
    .option("-v, --verbose", "what changed, by which rule, and why")
    .option("-o, --columns <json>", "the table as JSON", collect)
    .addHelpText("after", examples("history -s 1 -v", "history -s 1 -j | tail -n 1"))
    .action(run(history));
}

async function history(context: AdminContext, options: Options): Promise<ExitStatus> {
  const sort = options.sort ?? "zkSeq";
  if (sort !== "zkSeq" && sort !== "time") throw new WrongUse(`option --sort takes zkSeq or time, not "${sort}"`);
  if (options.columns !== undefined && !isJson(options.columns)) throw new WrongUse("option --columns takes json here");
  return withShard(context, await shardTarget(context, options), async ({ shard }): Promise<ExitStatus> => {
    const { terminal } = context;
    // What an entry changed is told by the one that it was written on, wherever that stands.
    const bySequence = historyRows(await shard.readHistory());
    const rows =
      sort === "time" ? [...bySequence].sort((a, b) => a.entry.writtenWallMs - b.entry.writtenWallMs) : bySequence;
    if (options.json === true) {
      for (const { entry } of rows) terminal.print(jsonLine(entry));
      return 0;
    }
    const columns =
      options.verbose === true || isJson(options.columns) ? [...HISTORY_COLUMNS, SUMMARY_COLUMN] : HISTORY_COLUMNS;
    if (isJson(options.columns)) terminal.print(tableJson(columns, rows));
    else printTable(terminal, columns, rows);
    return 0;
  });
}

function jsonLine({ writtenWallMs, raw, sequence }: HistoryEntry): string {
  let state: unknown;
  try {
    state = JSON.parse(raw);
  } catch {
    state = raw;
  }
  return JSON.stringify({ time: isoTime(writtenWallMs), state, zkSeq: sequence });
}
