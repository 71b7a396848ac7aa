import type { Command } from "commander";
import { confirm, readDocument, writeChange } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { isoTime } from "../../base/text.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly reason?: string;
}

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-r, --reason <REASON>", "why, for whoever finds the shard frozen (required)")
    .addHelpText(
      "after",
      `${examples('freeze -s 1 -r "moving racks"')}\n\nUntil unfreeze, nobody takes over, joins or leaves: a failure of the primary stops writes.`,
    )
    .action(run(freeze));
}

async function freeze(context: AdminContext, given: Options): Promise<ExitStatus> {
  const reason = given.reason?.trim();
  if (reason === undefined || reason === "") throw new WrongUse("option is required: --reason");
  const { terminal } = context;
  const options = changeOptions(given);
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    if (document.state.freeze !== undefined) {
      terminal.print(
        `Frozen already${document.state.freeze.reason === undefined ? "" : `: ${document.state.freeze.reason}`}.`,
      );
      return 0;
    }
    terminal.note(`Freezes shard ${access.target.shard}: no automatic change until manatee-adm unfreeze.`);
    await confirm(access, options, "go on");
    const date = isoTime(context.world.clock.wall());
    const written = await writeChange(
      access,
      document,
      {
        kind: "operator",
        rule: "F1",
        reason: `frozen by an operator: ${reason}`,
        apply: (state) => ({ ...state, freeze: { date, reason } }),
      },
      options,
    );
    if (written !== undefined) terminal.print("Frozen.");
    return 0;
  });
}
