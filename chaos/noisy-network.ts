// A network that is noisy in the way of netem, on kernels that have none as well: each host's device is a TAP, whose frames go through a process of ours (link-relay.ts),
// which delays and loses them. socat joins the two: a TAP wants an ioctl, which Node can't make.

import { type ChildProcess, fork, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import {
  expectOwnNetwork,
  type HostNetwork,
  ipOf,
  Namespace,
  type NetworkHost,
  OWN_IP,
  run,
} from "../test/support/hosts.ts";
import type { Noise, RelayOrder } from "./link-relay.ts";

/** Of the relay; of the device of number n: the port n + 1 behind it. Loopback of a namespace that nobody else is in. */
const RELAY_PORT = 5000;
const DEVICE_LIMIT_MS = 10_000;

/** Why there can't be one here; undefined: there can. */
export function noNoise(): string | undefined {
  if (!existsSync("/dev/net/tun")) return "there is no /dev/net/tun";
  if (!["/usr/bin", "/bin"].some((folder) => existsSync(`${folder}/socat`))) return "missing: socat (Debian: socat)";
  return undefined;
}

/** Made once in a process, in a network of its own. */
export class NoisyNetwork implements HostNetwork {
  readonly #relay: ChildProcess;
  readonly #ends: (() => void)[] = [];
  /** Device 0 is the test's own. */
  #devices = 0;

  private constructor(relay: ChildProcess) {
    this.#relay = relay;
  }

  static async make(noise: Noise): Promise<NoisyNetwork> {
    expectOwnNetwork();
    run("ip", "link", "set", "lo", "up");
    const relay = fork(fileURLToPath(new URL("link-relay.js", import.meta.url)), [
      String(RELAY_PORT),
      JSON.stringify(noise),
    ]);
    await once(relay, "message");
    const network = new NoisyNetwork(relay);
    const device = await network.#device();
    run("ip", "address", "add", `${OWN_IP}/24`, "dev", device.name);
    run("ip", "link", "set", device.name, "up");
    return network;
  }

  async host(): Promise<NetworkHost> {
    const { number, name } = await this.#device();
    const ip = ipOf(number - 1);
    const namespace = await Namespace.make();
    this.#ends.push(() => namespace.end());
    run("ip", "link", "set", name, "netns", String(namespace.pid), "name", "eth0");
    namespace.address(ip);
    const order = (one: RelayOrder): void => void this.#relay.send(one);
    const lost = new Set<string>();
    return {
      ip,
      enter: namespace.enter,
      unplug: () => order({ kind: "unplug", device: number }),
      plug: () => order({ kind: "plug", device: number }),
      loseTo(to) {
        if (lost.has(to)) return false;
        lost.add(to);
        order({ kind: "cut", from: number, to: deviceOf(to) });
        return true;
      },
      reachAgain(to) {
        if (lost.delete(to)) order({ kind: "join", from: number, to: deviceOf(to) });
      },
    };
  }

  close(): void {
    for (const end of this.#ends) end();
    this.#relay.kill("SIGKILL");
  }

  async #device(): Promise<{ readonly number: number; readonly name: string }> {
    const number = this.#devices++;
    const name = `tap${number}`;
    const child = spawn(
      "setpriv",
      [
        "--pdeathsig",
        "KILL",
        "socat",
        `TUN,tun-type=tap,tun-name=${name},iff-no-pi`,
        `UDP:127.0.0.1:${RELAY_PORT},bind=127.0.0.1:${RELAY_PORT + 1 + number}`,
      ],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
    this.#ends.push(() => child.kill("SIGKILL"));
    const until = performance.now() + DEVICE_LIMIT_MS;
    while (!readFileSync("/proc/net/dev", "utf8").includes(`${name}:`)) {
      if (child.exitCode !== null || performance.now() > until) throw new Error(`socat made no device ${name}`);
      await sleep(20);
    }
    return { number, name };
  }
}

function deviceOf(ip: string): number {
  if (ip === OWN_IP) return 0;
  for (let number = 0; number < 250; number++) if (ipOf(number) === ip) return number + 1;
  throw new Error(`nobody has the address ${ip}`);
}
