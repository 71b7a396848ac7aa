import type { Command } from "commander";
import type { Finding } from "../../cluster/health-facts.ts";
import { membersOf } from "../../cluster/state.ts";
import type { AdminContext } from "../context.ts";
import { withShard } from "../connect.ts";
import { findingLine, judge, problemsOf } from "../findings.ts";
import { examples } from "../output.ts";
import { type Picture, takePicture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { collect, isJson } from "../table.ts";
import { askSnapshots } from "../snapshot-findings.ts";
import { addShardOptions, type ShardTarget, shardTarget, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly verbose?: boolean;
  readonly columns?: readonly string[];
}

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .option("-v, --verbose", "say so when all is well, and what is merely good to know")
    .option("-o, --columns <json>", "as JSON", collect)
    .addHelpText(
      "after",
      `${examples("verify -s 1 && echo well")}\n\nOne problem a line, with what to do about it. Exits with 0 only if there is none.\nWith -f of a peer whose storage takes snapshots, the peers' backup servers are asked, too: snapshots that can't be restored, old ones, space.`,
    )
    .action(run(verify));
}

/** Where a file names storage that snapshots, and with it the credential by which peers tell of theirs. */
async function judgeStorage(
  context: AdminContext,
  { config }: ShardTarget,
  { view, wallMs }: Picture,
): Promise<readonly Finding[]> {
  if (config?.storage === undefined || view.kind !== "document") return [];
  return askSnapshots(await context.backups(config), { peers: membersOf(view.state), wallMs });
}

async function verify(context: AdminContext, options: Options): Promise<ExitStatus> {
  if (options.columns !== undefined && !isJson(options.columns)) throw new WrongUse("option --columns takes json here");
  const target = await shardTarget(context, options);
  return withShard(context, target, async (access) => {
    const { terminal } = context;
    const picture = await takePicture(access);
    const findings = [...(await judge(access, picture)), ...(await judgeStorage(context, target, picture))];
    const problems = problemsOf(findings);
    const shown = options.verbose === true ? findings : problems;
    if (isJson(options.columns))
      terminal.print(
        JSON.stringify(
          shown.map(({ rule, peer, ...rest }) => ({ ...rest, rule: rule ?? null, peer: peer ?? null })),
          undefined,
          2,
        ),
      );
    else for (const each of shown) terminal.print(findingLine(each, terminal.colour));
    if (problems.length === 0 && options.verbose === true && !isJson(options.columns))
      terminal.print(`shard ${target.shard}: no problems found`);
    return problems.length === 0 ? 0 : 1;
  });
}
