import type { Command } from "commander";
import { confirm, readDocument, writeChange } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget } from "../target.ts";

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .addHelpText(
      "after",
      `${examples("clear-promote -s 1")}\n\nA promotion that has begun goes on; whoever carries it out takes the request away itself.`,
    )
    .action(run(clearPromote));
}

async function clearPromote(context: AdminContext, given: ChangeCommandOptions): Promise<ExitStatus> {
  const { terminal } = context;
  const options = changeOptions(given);
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    const { promote, malformedPromote } = document.state;
    if (promote === undefined && malformedPromote === undefined) {
      terminal.print("There is no request to promote.");
      return 0;
    }
    terminal.note(
      promote === undefined
        ? `Takes away what is no request: ${malformedPromote}`
        : `Takes away the request to promote ${promote.id} (${promote.role}), which expires at ${promote.expireTime}.`,
    );
    await confirm(access, options, "go on");
    const cleared = {
      kind: "operator",
      rule: "T3",
      reason: "the request to promote was taken back by an operator",
      apply: (state: typeof document.state) => ({ ...state, promote: undefined, malformedPromote: undefined }),
    } as const;
    if ((await writeChange(access, document, cleared, options)) !== undefined) terminal.print("Cleared.");
    return 0;
  });
}
