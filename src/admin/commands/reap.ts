import type { Command } from "commander";
import { type PeerEntry, type ShardState, shortName } from "../../cluster/state.ts";
import { ManateeError } from "../../base/errors.ts";
import { roleOf } from "../../cluster/state.ts";
import { confirm, readDocument, writeChange } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget } from "../target.ts";
import { findPeer } from "../find-peer.ts";
import { configFile } from "../peer-target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly ip?: string;
  readonly zonename?: string;
}

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-c, --config <CONFIG>", "the sitter's file of the peer to forget, as -f (or MANATEE_SITTER_CONFIG)")
    .option("-i, --ip <IP>", "its address")
    .option("-n, --zonename <ZONENAME>", "its name")
    .addHelpText(
      "after",
      `${examples("reap -s 1 -n 0b1de6d6")}\n\nOnly for deposed peers that never come back. One that does come back rejoins as an async.`,
    )
    .action(run(reap));
}

async function reap(context: AdminContext, given: Options): Promise<ExitStatus> {
  const { terminal } = context;
  const options = changeOptions(given);
  const own = given.ip === undefined && given.zonename === undefined;
  const file = given.file ?? given.config ?? (own ? configFile(context, given) : undefined);
  const target = await shardTarget(context, { ...given, ...(file === undefined ? {} : { file }) });
  const zonename = given.zonename ?? (own ? target.config?.self.zoneId : undefined);
  if (zonename === undefined && given.ip === undefined)
    throw new WrongUse("option is required: --zonename (or --ip, or --config)");
  return withShard(context, target, async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    const peer = deposedPeer(document.state, { ip: given.ip, zonename });
    const present = (await access.shard.readElection()).some((entry) => entry.peer.id === peer.id);
    terminal.note(`Takes ${peer.zoneId} (${peer.ip}) off the list of deposed peers of shard ${target.shard}.`);
    if (present)
      terminal.note(`warning: peer "${shortName(peer)}" is present: it rejoins by itself, or by manatee-adm rebuild.`);
    await confirm(access, options, "go on");
    const apply = (state: ShardState) => ({
      ...state,
      deposed: state.deposed.filter(({ id }) => id !== deposedPeer(state, { ip: undefined, zonename: peer.zoneId }).id),
    });
    const written = await writeChange(
      access,
      document,
      { kind: "operator", rule: "A2", reason: `${peer.id} was reaped by an operator`, apply },
      options,
    );
    if (written !== undefined) terminal.print(`Reaped ${peer.zoneId}.`);
    return 0;
  });
}

function deposedPeer(state: ShardState, by: { ip: string | undefined; zonename: string | undefined }): PeerEntry {
  const peer = findPeer(state, by);
  const role = roleOf(state, peer.id);
  if (role === "deposed") return peer;
  throw new ManateeError({
    code: "ADMIN_NOT_DEPOSED",
    message: `peer "${shortName(peer)}" is ${role}, not deposed`,
    remedy: "operator",
    hint: "Stop its sitter: an async that is gone leaves the list by itself.",
  });
}
