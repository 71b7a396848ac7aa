import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { roleOf, type ShardState } from "../../cluster/state.ts";
import type { SitterConfig } from "../../config/types.ts";
import { confirm, readDocument } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { isoTime } from "../../base/text.ts";
import { examples } from "../output.ts";
import { askPeer } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { peerTarget } from "../peer-target.ts";
import { sleep } from "../wait.ts";

/** A copy takes as long as the database is large; without --timeout it is waited for. */
const LOOK_EVERY_MS = 1_000;

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-c, --config <CONFIG>", "the sitter's file of this host's peer, as -f (or MANATEE_SITTER_CONFIG)")
    .addHelpText(
      "after",
      `${examples("rebuild -c /etc/manatee/sitter.json")}\n\nRun it on the host of the peer that is to be rebuilt. Its present content is kept as a fork first; where policy.forksKeptMax are kept already, it waits.`,
    )
    .action(run(rebuild));
}

/** The request, as the sitter finds it. */
export function rebuildRequestPath({ stateDir }: SitterConfig): string {
  return `${stateDir}/rebuild.json`;
}

async function rebuild(context: AdminContext, given: ChangeCommandOptions): Promise<ExitStatus> {
  const options = changeOptions(given);
  const target = await peerTarget(context, given);
  const { config } = target;
  return withShard(context, target, async (access): Promise<ExitStatus> => {
    const { terminal, world } = context;
    const { state } = await readDocument(access);
    checkRole(state, config);
    const path = rebuildRequestPath(config);
    const before = await askPeer(world.network, config.self);
    terminal.note(
      `Copies ${config.self.zoneId} (${config.postgres.dataDir}) anew from another peer of shard ${target.shard}.`,
    );
    terminal.note(
      "What it holds now is kept aside as a fork, if configuration and space allow; otherwise the sitter waits and says so.",
    );
    await confirm(access, options, "refuse");
    if (options.dryRun === true) {
      terminal.print(`Dry run: nothing is written. The request would be ${path}.`);
      return 0;
    }
    await world.files.write(
      path,
      `${JSON.stringify({ requestedAt: isoTime(world.clock.wall()), by: context.author })}\n`,
      { mode: 0o644 },
    );
    if (before.report === undefined) {
      terminal.print(`Requested in ${path}. Its sitter doesn't answer; it takes the request up when it starts.`);
      return 0;
    }
    await follow(access, { config, path, limitMs: given.timeout === undefined ? Infinity : given.timeout * 1000 });
    return 0;
  });
}

/** R1: never a peer that is named primary or sync. */
function checkRole(state: ShardState, { self }: SitterConfig): void {
  const role = roleOf(state, self.id);
  if (role !== "primary" && role !== "sync") return;
  throw new ManateeError({
    code: "ADMIN_REBUILD_REFUSED",
    message: `this host's peer ${self.id} is the ${role}: what it holds may be the only copy`,
    remedy: "operator",
    hint:
      role === "sync"
        ? "Let an async take its place first: manatee-adm promote -r async -i 0."
        : "Switch over first: manatee-adm promote -r sync.",
  });
}

async function follow(
  { context }: ShardAccess,
  { config, path, limitMs }: { config: SitterConfig; path: string; limitMs: number },
): Promise<void> {
  const { terminal, world } = context;
  const began = world.clock.now();
  let told = "";
  while ((await world.files.read(path)) !== undefined) {
    const { report } = await askPeer(world.network, config.self);
    const job = report?.postgres.job;
    const now =
      report === undefined
        ? "its sitter doesn't answer"
        : job
          ? `${job.kind}${job.progress === null ? "" : ` ${job.progress}`}`
          : `${report.decision.because}${report.decision.waitingOn === null ? "" : `; waits for ${report.decision.waitingOn}`}`;
    if (now !== told) terminal.note(`${((world.clock.now() - began) / 1000).toFixed(1).padStart(5)} s  ${now}`);
    told = now;
    if (world.clock.now() - began > limitMs)
      throw new ManateeError({
        code: "ADMIN_NOT_REACHED",
        message: `not reached within ${limitMs / 1000} s: ${told}`,
        remedy: "operator",
        hint: "The request stays; see the sitter's log, or remove the file to take it back.",
      });
    await sleep(context, LOOK_EVERY_MS);
  }
  terminal.print(`Done after ${((world.clock.now() - began) / 1000).toFixed(1)} s: ${config.self.zoneId} is rebuilt.`);
}
