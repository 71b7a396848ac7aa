// What a busy machine does to a shard without any fault: all cores taken by others, and agents that stand still for a moment.

import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../simulation/random.ts";
import { between } from "../simulation/random.ts";
import type { TestPeer } from "../test/support/peer.ts";
import type { Noise as LinkNoise } from "./link-relay.ts";

/** 200 ms of jitter, 2 % of the packets lost. */
export const LINK_NOISE: LinkNoise = { jitterMs: 200, redrawMs: [50, 500], loss: 0.02 };
/** How long an agent stands still, and how long none does. */
const PAUSE_MS = [0, 1_000] as const;
const BETWEEN_MS = [500, 5_000] as const;

/** Goes on until it is stopped. */
export function makeNoise(peers: readonly TestPeer[], random: Random): { stop(): Promise<void> } {
  const burners = Array.from({ length: availableParallelism() }, () =>
    spawn("setpriv", ["--pdeathsig", "KILL", process.execPath, "-e", "for (;;);"], { stdio: "ignore" }),
  );
  const stopping = new AbortController();
  const pauses = (async () => {
    while (!stopping.signal.aborted) {
      const peer = peers[between(random, [0, peers.length - 1])] as TestPeer;
      if (peer.sitterPid !== undefined) {
        peer.freeze("sitter");
        await sleep(between(random, PAUSE_MS));
        peer.thaw();
      }
      await sleep(between(random, BETWEEN_MS), undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      for (const burner of burners) burner.kill("SIGKILL");
      await pauses;
    },
  };
}
