import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { addChangeOptions } from "../change-options.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { restoreState } from "../restore.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .addHelpText("after", examples("state -s 1", "zk-state -s 1", "state restore -s 1"))
    .action(run(printState));
  addChangeOptions(command.command("restore"))
    .description("write back a document that was lost or can't be read")
    .copyInheritedSettings(command)
    .option("-n, --zonename <ZONENAME>", "the last document that this peer saw")
    .option("--history <SEQUENCE>", "an entry of the history instead")
    .addHelpText(
      "after",
      `${examples("state restore -s 1", "state restore -s 1 -n 7a8f0b2c --dry-run")}\n\nShows the last document of each peer and where its data stand, and writes the chosen one with a generation above\nall that is known. Choose the newest, unless you know better.`,
    )
    .action(run(restoreState));
}

async function printState(context: AdminContext, given: TargetOptions): Promise<ExitStatus> {
  return withShard(context, await shardTarget(context, given), async ({ shard }): Promise<ExitStatus> => {
    const node = await shard.session.read(`${shard.path}/state`, { confirmed: true });
    if (node === undefined)
      throw new ManateeError({
        code: "STATE_ABSENT",
        message: `there is no state document at ${shard.path}/state`,
        remedy: "operator",
        hint: "Check the name of the shard; if the document was lost, use manatee-adm state restore.",
      });
    const text = new TextDecoder().decode(node.data);
    context.terminal.print(pretty(text));
    return 0;
  });
}

/** As it stands in the store where it is no JSON. */
function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), undefined, 2);
  } catch {
    return text;
  }
}
