import type { Command } from "commander";
import { explainError } from "../../base/errors.ts";
import { shortName } from "../../cluster/state.ts";
import { hintOf } from "../explain-failure.ts";
import { whyNoSnapshots } from "../no-snapshots.ts";
import { peerTarget } from "../peer-target.ts";
import { readDocument } from "../change.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples, printTable } from "../output.ts";
import { paint } from "../paint.ts";
import { peerRows } from "../peer-rows.ts";
import { findPeer } from "../find-peer.ts";
import type { ExitStatus, Run } from "../program.ts";
import { SNAPSHOT_COLUMNS, SNAPSHOT_DEFAULT } from "../snapshot-rows.ts";
import { chooseColumns, collect, isJson, tableJson } from "../table.ts";
import { addShardOptions, type TargetOptions } from "../target.ts";

interface Options extends TargetOptions {
  readonly omitHeader?: boolean;
  readonly columns?: readonly string[];
  readonly role?: string;
  readonly zonename?: string;
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .option("-n, --zonename <ZONENAME>", "of this peer only")
    .option("-r, --role <ROLE>", "of peers of this role only")
    .option("-H, --omitHeader", "no header")
    .option(
      "-o, --columns <COLUMN,...>",
      `these columns (${SNAPSHOT_COLUMNS.map(({ name }) => name).join(", ")}), or json`,
      collect,
    )
    .addHelpText(
      "after",
      `${examples("snapshots -f /etc/manatee/sitter.json", "snapshots -f /etc/manatee/sitter.json -r primary -o name,taken,verified,checked")}\n\nRun it on the host of any peer. Asks the peers' backup servers. Snapshots are listed oldest first; VERIFIED says what became of starting PostgreSQL on\na clone of it, HELD by what it is kept (a transfer, a kept fork).`,
    )
    .action(run(snapshots));
}

async function snapshots(context: AdminContext, options: Options): Promise<ExitStatus> {
  const json = isJson(options.columns);
  const columns = chooseColumns(
    json ? SNAPSHOT_COLUMNS.map(({ name }) => name) : (options.columns ?? SNAPSHOT_DEFAULT),
    SNAPSHOT_COLUMNS,
  );
  const target = await peerTarget(context, options);
  const { terminal, world } = context;
  return withShard(context, target, async (access) => {
    const { state } = await readDocument(access);
    const only =
      options.zonename === undefined ? undefined : findPeer(state, { zonename: options.zonename, ip: undefined });
    const chosen = peerRows(state, options.role).filter(({ peer }) => only === undefined || peer.id === only.id);
    const backups = await context.backups(target.config);
    const asked = await Promise.all(
      chosen.map(async (row) => {
        try {
          return { ...row, snapshots: (await backups.list(row.peer)).snapshots, error: undefined };
        } catch (error) {
          return { ...row, snapshots: [], error };
        }
      }),
    );
    const wallMs = world.clock.wall();
    const rows = asked.flatMap(({ peer, role, snapshots: found }) =>
      found.map((snapshot) => ({ peer, role, snapshot, wallMs })),
    );
    if (json) terminal.print(tableJson(columns, rows));
    else printTable(terminal, columns, rows, options);
    const silent = asked.filter(({ error }) => error !== undefined);
    for (const { peer, error } of silent)
      terminal.note(`${paint(terminal.noteColour, "red", "error:")} ${shortName(peer)}: ${explainError(error)}`);
    const why = silent.length === 0 ? undefined : whyNoSnapshots(target);
    for (const hint of [
      ...new Set(silent.flatMap(({ error }) => hintOf(error) ?? [])),
      ...(why === undefined ? [] : [why]),
    ])
      terminal.note(hint);
    return silent.length === 0 ? 0 : 1;
  });
}
