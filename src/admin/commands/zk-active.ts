import type { Command } from "commander";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { ExitStatus, Run } from "../program.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .addHelpText(
      "after",
      `${examples("zk-active -s 1")}\n\nThe election nodes as they stand in the store, in their order: one peer may have several for a moment.`,
    )
    .action(run(active));
}

async function active(context: AdminContext, given: TargetOptions): Promise<ExitStatus> {
  return withShard(context, await shardTarget(context, given), async ({ shard }): Promise<ExitStatus> => {
    const folder = `${shard.path}/election`;
    const names = [...((await shard.session.list(folder)) ?? [])].sort((a, b) => sequenceOf(a) - sequenceOf(b));
    const nodes = await Promise.all(
      names.map(async (name) => {
        const node = await shard.session.read(`${folder}/${name}`);
        return node === undefined
          ? []
          : [{ node: name, id: name.slice(0, name.lastIndexOf("-")), ...dataOf(node.data) }];
      }),
    );
    context.terminal.print(JSON.stringify(nodes.flat(), undefined, 2));
    return 0;
  });
}

function sequenceOf(name: string): number {
  return Number(name.slice(name.lastIndexOf("-") + 1));
}

function dataOf(bytes: Uint8Array): object {
  const text = new TextDecoder().decode(bytes);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Shown as it stands.
  }
  return { data: text };
}
