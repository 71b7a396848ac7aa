import type { Command } from "commander";
import type { AdminContext } from "../context.ts";
import { readDocument } from "../change.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import { findingLine, judge, problemsOf } from "../findings.ts";
import { examples, printTable } from "../output.ts";
import { STATUS_COLUMNS, STATUS_DEFAULT, STATUS_WIDE, type StatusRow, statusRows } from "../peer-rows.ts";
import { takePicture } from "../picture.ts";
import type { Run } from "../program.ts";
import { chooseColumns, collect, type Column, isJson, tableJson } from "../table.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";
import { sleep } from "../wait.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly wide?: boolean;
  readonly omitHeader?: boolean;
  readonly columns?: readonly string[];
  readonly role?: string;
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .argument("[PERIOD]", "again each so many seconds")
    .argument("[COUNT]", "so many times")
    .option("-w, --wide", "whole names of peers")
    .option("-H, --omitHeader", "no header")
    .option(
      "-o, --columns <COLUMN,...>",
      `these columns (${STATUS_COLUMNS.map(({ name }) => name).join(", ")}), or json`,
      collect,
    )
    .option("-r, --role <ROLE>", "peers of this role only")
    .addHelpText(
      "after",
      examples("pg-status -s 1", "pg-status -s 1 1 10", "pg-status -s 1 -H -o role,pg-online,pg-lag"),
    )
    .action(run(pgStatus));
}

async function pgStatus(context: AdminContext, options: Options, args: readonly string[]): Promise<undefined> {
  const period = args[0] === undefined ? undefined : positive(args[0], "PERIOD");
  const count = args[1] === undefined ? (period === undefined ? 1 : Infinity) : Math.floor(positive(args[1], "COUNT"));
  const names = isJson(options.columns)
    ? STATUS_COLUMNS.map(({ name }) => name)
    : (options.columns ?? (options.wide === true ? STATUS_WIDE : STATUS_DEFAULT));
  const columns = chooseColumns(names, STATUS_COLUMNS);
  return withShard(context, await shardTarget(context, options), async (access) => {
    for (let times = 1; times <= count; times++) {
      await once(access, columns, options);
      if (times < count) await sleep(context, (period as number) * 1000);
    }
    return undefined;
  });
}

async function once(access: ShardAccess, columns: readonly Column<StatusRow>[], options: Options): Promise<void> {
  const { terminal } = access.context;
  const picture = await takePicture(access);
  const { state } = picture.view.kind === "document" ? picture.view : await readDocument(access);
  const rows = statusRows(state, picture, options.role);
  if (isJson(options.columns)) terminal.print(tableJson(columns, rows));
  else printTable(terminal, columns, rows, options);
  const problems = problemsOf(await judge(access, picture));
  if (problems.length > 0) terminal.note("");
  for (const problem of problems) terminal.note(findingLine(problem, terminal.noteColour));
}

function positive(text: string, name: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1e9)) throw new WrongUse(`${name} is a number above 0, not "${text}"`);
  return value;
}
