import type { Command } from "commander";
import { formatLsn } from "../../base/lsn.ts";
import { isoTime } from "../../base/text.ts";
import { confirm } from "../change.ts";
import { changeOptions } from "../change-options.ts";
import type { Forks, KeptFork } from "../../postgres/forks.ts";
import type { AdminContext } from "../context.ts";
import { examples, printTable } from "../output.ts";
import { peerTarget } from "../peer-target.ts";
import type { ExitStatus, Run } from "../program.ts";
import { size } from "../snapshot-rows.ts";
import { chooseColumns, collect, type Column, isJson, tableJson } from "../table.ts";
import type { TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly columns?: readonly string[];
  readonly omitHeader?: boolean;
  readonly transactions?: string;
  readonly drop?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

export const FORK_COLUMNS: readonly Column<KeptFork>[] = [
  { name: "name", label: "FORK", width: 36, value: ({ name }) => name },
  { name: "kind", label: "KIND", width: 8, value: ({ kind }) => kind },
  {
    name: "kept",
    label: "KEPT",
    width: 24,
    value: ({ keptWallMs }) => (keptWallMs === undefined ? "-" : isoTime(keptWallMs)),
  },
  { name: "own", label: "OWN", width: 8, align: "right", value: ({ ownBytes }) => size(ownBytes ?? null) },
  { name: "place", label: "PLACE", width: 20, value: ({ place }) => place },
];

export function define(command: Command, run: Run): void {
  command
    .option("-f, --file <CONFIG>", "the sitter's file of this host's peer (or MANATEE_SITTER_CONFIG)")
    .option("-t, --transactions <FORK>", "list the transactions that it holds and the shard lacks")
    .option("--drop <FORK>", "remove it, with all that it holds")
    .option("-H, --omitHeader", "no header")
    .option(
      "-o, --columns <COLUMN,...>",
      `these columns (${FORK_COLUMNS.map(({ name }) => name).join(", ")}), or json`,
      collect,
    )
    .option("-y, --yes", "don't ask")
    .option("--dry-run", "show what would happen, and change nothing")
    .addHelpText(
      "after",
      `${examples("diverged -f /etc/manatee/sitter.json", "diverged -f /etc/manatee/sitter.json -t FORK", "diverged -f /etc/manatee/sitter.json --drop FORK")}\n\nRun it on the peer's own host, as the user that owns the data. A fork is what a peer's WAL held and the shard's did not when it came back: transactions that nobody was told\nhad been committed, or (after takeover --accept-loss) some that were. They are read by pg_waldump, behind the point where the two part.`,
    )
    .action(run(diverged));
}

async function diverged(context: AdminContext, options: Options): Promise<ExitStatus> {
  if (options.transactions !== undefined && options.drop !== undefined)
    throw new WrongUse("options exclude each other: --transactions and --drop");
  const json = isJson(options.columns);
  const columns = chooseColumns(
    json || !options.columns ? FORK_COLUMNS.map(({ name }) => name) : options.columns,
    FORK_COLUMNS,
  );
  const { config } = await peerTarget(context, options);
  const forks = await context.forks(config);
  if (options.transactions !== undefined) return transactions(context, forks, { name: options.transactions, json });
  if (options.drop !== undefined) return drop(context, forks, { ...options, name: options.drop });
  const list = await forks.list();
  if (json) context.terminal.print(tableJson(columns, list));
  else printTable(context.terminal, columns, list, options);
  return 0;
}

async function transactions(
  { terminal }: AdminContext,
  forks: Forks,
  { name, json }: { name: string; json: boolean },
): Promise<ExitStatus> {
  const { timeline, fork, commits } = await forks.content(name);
  if (json) {
    terminal.print(JSON.stringify({ fork: name, timeline, lsn: formatLsn(fork), commits }, undefined, 2));
    return 0;
  }
  terminal.note(
    `${name} left the shard's WAL at ${formatLsn(fork)} on timeline ${timeline}; ${commits.length} commits lie behind it.`,
  );
  for (const { xid, lsn, committedAt } of commits)
    terminal.print(`${xid.padStart(10)}  ${lsn.padEnd(12)} ${committedAt}`);
  return 0;
}

async function drop(
  context: AdminContext,
  forks: Forks,
  options: Options & { readonly name: string },
): Promise<ExitStatus> {
  const { terminal } = context;
  const doomed = (await forks.list()).filter(({ name }) => name === options.name);
  for (const { kind, place, ownBytes } of doomed)
    terminal.note(
      `Removes the ${kind} ${place}${ownBytes === undefined ? "" : ` (${size(ownBytes)})`}. What it holds is nowhere else.`,
    );
  if (doomed.length > 0) await confirm({ context }, changeOptions(options), "refuse");
  if (options.dryRun === true && doomed.length > 0) {
    terminal.print("Dry run: nothing is removed.");
    return 0;
  }
  await forks.drop(options.name);
  terminal.print(`${options.name} is gone.`);
  return 0;
}
