import type { Command } from "commander";
import { formatLsn } from "../../base/lsn.ts";
import { describeGeneration } from "../../cluster/health.ts";
import type { Finding } from "../../cluster/health-facts.ts";
import type { ShardState } from "../../cluster/state.ts";
import type { AdminContext } from "../context.ts";
import { shardNames } from "../all-shards.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import { findingLine, judge, problemsOf } from "../findings.ts";
import { examples, printTable } from "../output.ts";
import { PEER_COLUMNS, peerRows, PEERS_DEFAULT, STATUS_COLUMNS, STATUS_DEFAULT, statusRows } from "../peer-rows.ts";
import { type Picture, takePicture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { chooseColumns, collect, isJson, tableJson } from "../table.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly verbose?: boolean;
  readonly columns?: readonly string[];
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .option("-v, --verbose", "the whole names of the peers, too")
    .option("-o, --columns <json>", "as JSON", collect)
    .addHelpText("after", examples("show -s 1", "show -v -f /etc/manatee/sitter.json"))
    .action(run(show));
}

async function show(context: AdminContext, options: Options): Promise<ExitStatus> {
  if (options.columns !== undefined && !isJson(options.columns)) throw new WrongUse("option --columns takes json here");
  return withShard(context, await shardTarget(context, options), async (access) => {
    const picture = await takePicture(access);
    const problems = problemsOf(await judge(access, picture));
    if (isJson(options.columns)) context.terminal.print(json(access, picture, problems));
    else print(access, picture, problems, options);
    if (picture.view.kind === "absent") {
      const names = await shardNames(access.shard.session);
      context.terminal.note(`Shards in this store: ${names.length === 0 ? "none" : names.join(", ")}.`);
    }
    return picture.view.kind === "document" ? 0 : 1;
  });
}

function print(
  { context, target }: ShardAccess,
  picture: Picture,
  problems: readonly Finding[],
  options: Options,
): void {
  const { terminal } = context;
  const line = (label: string, value: string) => terminal.print(`${`${label}:`.padEnd(12)} ${value}`);
  line("zookeeper", target.place);
  line("cluster", target.shard);
  if (picture.view.kind === "document") {
    const { state } = picture.view;
    line("generation", describeGeneration(state));
    line("mode", modeOf(state));
    line(
      "freeze",
      state.freeze === undefined
        ? "not frozen"
        : `frozen${state.freeze.date === undefined ? "" : ` since ${state.freeze.date}`}`,
    );
    if (state.freeze?.reason !== undefined) line("freeze info", state.freeze.reason);
    terminal.print("");
    if (options.verbose === true) {
      printTable(terminal, chooseColumns(PEERS_DEFAULT, PEER_COLUMNS), peerRows(state, undefined));
      terminal.print("");
    }
    const rows = statusRows(state, picture, undefined);
    const tagged = options.verbose === true && rows.some(({ tags }) => tags !== "");
    printTable(terminal, chooseColumns([...STATUS_DEFAULT, ...(tagged ? ["tags"] : [])], STATUS_COLUMNS), rows);
  }
  if (problems.length > 0) terminal.print("");
  for (const problem of problems) terminal.print(findingLine(problem, terminal.colour));
}

function modeOf({ oneNodeWriteMode }: ShardState): string {
  return oneNodeWriteMode ? "singleton (one-node-write)" : "normal";
}

function json({ target }: ShardAccess, picture: Picture, problems: readonly Finding[]): string {
  const state = picture.view.kind === "document" ? picture.view.state : undefined;
  return JSON.stringify(
    {
      store: target.place,
      cluster: target.shard,
      generation: state?.generation ?? null,
      initWal: state === undefined ? null : formatLsn(state.initWal),
      timeline: state?.timeline ?? null,
      provisional: state?.provisional ?? null,
      mode: state === undefined ? null : state.oneNodeWriteMode ? "singleton" : "normal",
      freeze:
        state?.freeze === undefined ? null : { date: state.freeze.date ?? null, reason: state.freeze.reason ?? null },
      peers:
        state === undefined
          ? []
          : (JSON.parse(tableJson(STATUS_COLUMNS, statusRows(state, picture, undefined))) as unknown),
      problems: problems.map(({ severity, message, remedy }) => ({ severity, message, remedy })),
    },
    undefined,
    2,
  );
}
