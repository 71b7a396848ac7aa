// Random faults, one after the other and several at once, on a real shard whose peers are hosts of their own (network namespaces), with clients that write down what they
// saw. After each round all is mended, every peer must be back by itself, and checkers judge the whole history. `npm run chaos -- --help`.

import { writeFileSync } from "node:fs";
import { Command, InvalidArgumentError, Option } from "commander";
import { DEFAULTS } from "../src/config/defaults.ts";
import { seeded } from "../simulation/random.ts";
import { type HostNetwork, Network, type NetworkHost, OWN_IP, rerunInOwnNetwork } from "../test/support/hosts.ts";
import { buildRuntime, removeRuntime } from "../test/support/runtime.ts";
import { startShard } from "../test/support/start-shard.ts";
import type { Scene } from "./faults.ts";
import { ISOLATIONS, type Isolation } from "./list-append.ts";
import { LINK_NOISE } from "./noise.ts";
import { NoisyNetwork, noNoise } from "./noisy-network.ts";
import { reportOf } from "./report.ts";
import { type Options, Run } from "./rounds.ts";
import { KINDS } from "./schedule.ts";

const inside = await rerunInOwnNetwork().catch((error: Error) => {
  console.error(error.message);
  return 1;
});
process.exitCode = inside ?? (await main(readOptions()));

function readOptions(): Options {
  const positive = (text: string): number => {
    const value = Number(text);
    if (!(value > 0)) throw new InvalidArgumentError("it must be a number above 0.");
    return value;
  };
  return new Command("chaos")
    .description(
      "Lets random faults befall a real shard, and judges what clients saw.\nNeeds root: every peer is a host of its own, a network namespace, which goes when this ends.",
    )
    .option("--minutes <N>", "how long, at least; the round under way is finished", positive, 10)
    .option("--seed <S>", "which faults (default: another one each time)", positive, Date.now() % 1_000_000)
    .option("--peers <N>", "peers of the shard, 3 to 6", positive, 3)
    .addOption(new Option("--only <KIND...>", "these faults").choices(KINDS).default([]))
    .addOption(
      new Option("--isolation <LEVEL>", "of the transactions").choices(ISOLATIONS).default("serializable" as Isolation),
    )
    .option("--calm", "no faults: what the machine and PostgreSQL do by themselves", false)
    .option(
      "--noise",
      "all the time: both cores busy, 200 ms of jitter, 2 % of the packets lost, agents paused for up to 1 s",
      false,
    )
    .addOption(
      new Option(
        "--plant <MISTAKE>",
        "a mistake that must be found. local-commit: clients don't wait for the sync",
      ).choices(["local-commit"]),
    )
    .option("--report <FILE>", "write the report (Markdown) there, too")
    .addHelpText(
      "after",
      "\nExit status: 0 nothing found; 1 something was found, or a peer did not come back.\n\nWhat befalls the shard is drawn from the seed; when exactly it hits, the machine decides: run a seed that failed a few times.",
    )
    .parse()
    .opts<Options>();
}

async function main(options: Options): Promise<number> {
  const runtime = await buildRuntime();
  const reason = options.noise ? noNoise() : undefined;
  if (reason !== undefined) {
    console.error(`a noisy network can't be made: ${reason}`);
    return 1;
  }
  const network: HostNetwork = options.noise ? await NoisyNetwork.make(LINK_NOISE) : new Network();
  let interrupted = false;
  const interrupt = (): void => {
    if (interrupted) process.exit(130);
    interrupted = true;
    console.error("stops after this episode; once more: at once");
  };
  process.on("SIGINT", interrupt);
  try {
    const hosts: NetworkHost[] = [];
    for (let i = 0; i < options.peers; i++) hosts.push(await network.host());
    const shard = await startShard({
      hosts,
      peers: options.peers,
      storeAddress: OWN_IP,
      sessionTimeoutMs: DEFAULTS.sessionTimeoutMs,
      // As shipped, but that a shard should not take over as often in an hour, nor keep as many forks.
      config: { policy: { suspectMs: DEFAULTS.policy.suspectMs, takeoversPerHourMax: 1000, forksKeptMax: 50 } },
    });
    const scene: Scene = {
      shard,
      random: seeded(options.seed),
      hostOf: (peer) => hosts[shard.peers.indexOf(peer)] as NetworkHost,
    };
    const result = await new Run(scene, options, () => interrupted).whole();
    const report = reportOf(result);
    console.log(report);
    if (options.report !== undefined) writeFileSync(options.report, report);
    try {
      await shard.stop();
    } catch (error) {
      console.error((error as Error).message);
      return 1;
    }
    return result.rounds.some(({ problems }) => problems.length > 0) ? 1 : 0;
  } finally {
    process.off("SIGINT", interrupt);
    network.close();
    await removeRuntime(runtime);
  }
}
