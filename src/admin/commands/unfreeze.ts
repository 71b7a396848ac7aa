import type { Command } from "commander";
import { confirm, readDocument, writeChange } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget } from "../target.ts";

interface Options extends ChangeCommandOptions {
  readonly reason?: string;
}

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-r, --reason <REASON>", "why, for the history")
    .addHelpText("after", examples("unfreeze -s 1", 'unfreeze -s 1 -r "racks moved"'))
    .action(run(unfreeze));
}

async function unfreeze(context: AdminContext, given: Options): Promise<ExitStatus> {
  const { terminal } = context;
  const options = changeOptions(given);
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    if (document.state.freeze === undefined) {
      terminal.print("Not frozen.");
      return 0;
    }
    const { date, reason } = document.state.freeze;
    const next =
      document.state.oneNodeWriteMode && document.state.sync === null
        ? "One-node-write mode, which freezes it as well, stays: manatee-adm set-onwm -m off ends both."
        : "From now on it changes by itself again.";
    terminal.note(
      `Shard ${access.target.shard} is frozen${date === undefined ? "" : ` since ${date}`}${reason === undefined ? "" : `: ${reason}`}. ${next}`,
    );
    await confirm(access, options, "go on");
    const written = await writeChange(
      access,
      document,
      {
        kind: "operator",
        rule: "F1",
        reason: `unfrozen by an operator${given.reason === undefined ? "" : `: ${given.reason}`}`,
        apply: (state) => ({ ...state, freeze: undefined }),
      },
      options,
    );
    if (written !== undefined) terminal.print("Unfrozen.");
    return 0;
  });
}
