import type { Command } from "commander";
import { shortName } from "../../cluster/state.ts";
import { formatLsn } from "../../base/lsn.ts";
import { decodeFacts } from "../../snapshots/facts.ts";
import { readDocument } from "../change.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { findPeer } from "../find-peer.ts";
import { whyNoSnapshots } from "../no-snapshots.ts";
import { examples } from "../output.ts";
import { peerTarget } from "../peer-target.ts";
import type { ExitStatus, Run } from "../program.ts";
import { addShardOptions, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly zonename?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function define(command: Command, run: Run): void {
  command
    .addHelpText("after", examples("snapshot now -f /etc/manatee/sitter.json"))
    .action(
      run(() =>
        Promise.reject(new WrongUse("what shall be done? There is: snapshot now; for a list, manatee-adm snapshots")),
      ),
    );
  addShardOptions(command.command("now"))
    .description("take a snapshot, and say when it is there")
    .copyInheritedSettings(command)
    .option("-n, --zonename <ZONENAME>", "of this peer; this host's otherwise")
    .option("-j, --json", "what it is, as JSON")
    .option("--dry-run", "show what would happen, and change nothing")
    .addHelpText(
      "after",
      `${examples("snapshot now -f /etc/manatee/sitter.json", "snapshot now -f /etc/manatee/sitter.json -n 7a8f0b2c")}\n\nRun it on the host of any peer. The peer's backup server takes it. It costs no space at first, and goes in its time, as those of the snapshotter.`,
    )
    .action(run(now));
}

async function now(context: AdminContext, options: Options): Promise<ExitStatus> {
  const target = await peerTarget(context, options);
  return withShard(context, target, async (access): Promise<ExitStatus> => {
    const { terminal, world } = context;
    const { self } = target.config;
    const peer =
      options.zonename === undefined
        ? self
        : findPeer((await readDocument(access)).state, { zonename: options.zonename, ip: undefined });
    if (options.dryRun === true) {
      terminal.print(`Dry run: nothing is done. The backup server at ${peer.backupUrl} would be asked for a snapshot.`);
      return 0;
    }
    const began = world.clock.now();
    const backups = await context.backups(target.config);
    const snapshot = await backups.takeNow(peer).catch((error: unknown) => {
      const why = whyNoSnapshots(target);
      if (why !== undefined) terminal.note(why);
      throw error;
    });
    const facts = decodeFacts(snapshot.properties);
    if (options.json === true) terminal.print(JSON.stringify({ peer: peer.zoneId, ...snapshot }, undefined, 2));
    else
      terminal.print(
        `${snapshot.name} of ${shortName(peer)}, after ${((world.clock.now() - began) / 1000).toFixed(1)} s${facts === undefined ? "" : `: it ends at ${formatLsn(facts.lsn)} on timeline ${facts.timeline}, at the latest`}`,
      );
    return 0;
  });
}
