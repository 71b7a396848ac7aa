import type { Command } from "commander";
import { withSession } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { addStoreOptions, storeTarget, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly path?: string;
}

export function define(command: Command, run: Run): void {
  addStoreOptions(command)
    .option("-p, --path <PATH>", "the node (required)")
    .addHelpText(
      "after",
      `${examples("check-lock -p /backup-in-progress || echo locked")}\n\nExits with 1 if the node exists, and prints nothing.`,
    )
    .action(run(checkLock));
}

async function checkLock(context: AdminContext, given: Options): Promise<ExitStatus> {
  const { path } = given;
  if (path === undefined) throw new WrongUse("option is required: --path");
  if (!/^(\/[^/]+)+$/.test(path)) throw new WrongUse(`option --path takes an absolute path, not "${path}"`);
  return withSession(context, await storeTarget(context, given), async (session): Promise<ExitStatus> => {
    return (await session.read(path, { confirmed: true })) === undefined ? 0 : 1;
  });
}
