import type { Command } from "commander";
import { readDocument } from "../change.ts";
import { withShard } from "../connect.ts";
import { examples, printTable } from "../output.ts";
import { PEER_COLUMNS, peerRows, PEERS_DEFAULT } from "../peer-rows.ts";
import type { Run } from "../program.ts";
import { chooseColumns, collect, isJson, tableJson } from "../table.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";

interface Options extends TargetOptions {
  readonly omitHeader?: boolean;
  readonly columns?: readonly string[];
  readonly role?: string;
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .option("-H, --omitHeader", "no header")
    .option(
      "-o, --columns <COLUMN,...>",
      `these columns (${PEER_COLUMNS.map(({ name }) => name).join(", ")}), or json`,
      collect,
    )
    .option("-r, --role <ROLE>", "peers of this role only")
    .addHelpText("after", examples("peers -s 1", "peers -s 1 -H -o ip -r primary"))
    .action(run(peers));
}

async function peers(context: Parameters<typeof shardTarget>[0], options: Options): Promise<undefined> {
  const json = isJson(options.columns);
  const columns = chooseColumns(
    json ? PEER_COLUMNS.map(({ name }) => name) : (options.columns ?? PEERS_DEFAULT),
    PEER_COLUMNS,
  );
  const target = await shardTarget(context, options);
  return withShard(context, target, async (access) => {
    const rows = peerRows((await readDocument(access)).state, options.role);
    if (json) context.terminal.print(tableJson(columns, rows));
    else printTable(context.terminal, columns, rows, options);
    return undefined;
  });
}
