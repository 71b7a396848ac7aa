import type { Command } from "commander";
import { pictureOf, shardNames } from "../all-shards.ts";
import { withSession } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { Picture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { peersByRole } from "../shard-json.ts";
import { addShardOptions, storeTarget, type TargetOptions } from "../target.ts";
import { Failed } from "../wrong-use.ts";

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .addHelpText(
      "after",
      `${examples("status", "status -s 1")}\n\nDeprecated: use show, pg-status -o json, or manatee-stat. Without --shard: every shard of the store.`,
    )
    .action(run(status));
}

async function status(context: AdminContext, given: TargetOptions): Promise<ExitStatus> {
  const target = await storeTarget(context, given);
  const only = given.shard ?? target.config?.shard;
  return withSession(context, target, async (session): Promise<ExitStatus> => {
    const names = only === undefined ? await shardNames(session) : [only];
    const shards = await Promise.all(
      names.map(async (name) => [name, shardJson(await pictureOf(context, session, target, name))] as const),
    );
    const known = shards.filter(([, json]) => json !== undefined);
    context.terminal.print(JSON.stringify(Object.fromEntries(known)));
    if (only !== undefined && known.length === 0) {
      context.terminal.note(`manatee-adm: no state document for shard ${only}`);
      throw new Failed();
    }
    return 0;
  });
}

function shardJson(picture: Picture): object | undefined {
  if (picture.view.kind === "absent") return undefined;
  if (picture.view.kind === "unreadable") return { error: picture.view.message };
  const { state } = picture.view;
  return { ...peersByRole(state, picture), ...(state.freeze === undefined ? {} : { __FROZEN__: state.freeze }) };
}
