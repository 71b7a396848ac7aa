// Hosts of their own for peers: a network namespace each, joined by a bridge in one more, in which the test itself runs. What is made here has no name outside of it,
// and goes with its processes: nothing can be left behind, however a test ends.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readlinkSync } from "node:fs";
import { runAs } from "./unprivileged.ts";

/** Where a peer's processes run. */
export interface Host {
  readonly ip: string;
  /** What goes before a command line so that it runs there, as the user of the tests. Empty: right here. */
  readonly enter: readonly string[];
}

/** Of the bridge, and so of the test itself, and of what it starts without a host. */
export const OWN_IP = "10.88.0.1";
const BRIDGE = "lab";
const HOLD = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"] as const;
const INSIDE = "MANATEE_TEST_NETWORK";
/** A hardware address that nobody has: what goes there is lost on the way. */
const NOWHERE = "02:00:00:00:00:fe";
const LINK_LIMIT_MS = 10_000;

/** Why hosts can't be made here; undefined: they can. */
export function noHosts(): string | undefined {
  if (process.getuid?.() !== 0) return "only root makes network namespaces";
  const missing = ["ip", "bridge", "nsenter", "unshare", "setpriv"].filter(
    (program) => !["/usr/sbin", "/usr/bin", "/sbin", "/bin"].some((folder) => existsSync(`${folder}/${program}`)),
  );
  return missing.length > 0 ? `missing: ${missing.join(", ")} (Debian: iproute2, util-linux)` : undefined;
}

/** Runs this program again, with the same arguments, in a network of its own; its exit status. undefined: it runs in one already. */
export async function rerunInOwnNetwork(): Promise<number | undefined> {
  if (process.env[INSIDE] !== undefined) return undefined;
  const reason = noHosts();
  if (reason !== undefined) throw new Error(`hosts in network namespaces can't be made: ${reason}`);
  const child = spawn(
    "setpriv",
    ["--pdeathsig", "KILL", "unshare", "--net", process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    { stdio: "inherit", env: { ...process.env, [INSIDE]: readlinkSync("/proc/self/ns/net") } },
  );
  // Ctrl-C reaches both; the one inside ends in order.
  const ignore = () => undefined;
  process.on("SIGINT", ignore);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (status) => {
      process.off("SIGINT", ignore);
      resolve(status ?? 1);
    });
  });
}

/** A host whose links can fail. */
export interface NetworkHost extends Host {
  /** Its packets, and those to it, vanish from now on. */
  unplug(): void;
  plug(): void;
  /** What it sends to that address vanishes; what comes from there still arrives. False: it does so already. */
  loseTo(ip: string): boolean;
  reachAgain(ip: string): void;
}

/** Hosts that can reach each other and the test, at {@link OWN_IP}. */
export interface HostNetwork {
  host(): Promise<NetworkHost>;
  close(): void;
}

/** A network namespace, for as long as its process lives. */
export class Namespace {
  readonly enter: readonly string[];
  readonly pid: number;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    const { uid, gid } = runAs().credentials;
    const user = uid === undefined || gid === undefined ? [] : ["--setuid", String(uid), "--setgid", String(gid)];
    this.#holder = holder;
    this.pid = holder.pid as number;
    this.enter = ["nsenter", "--target", String(this.pid), "--net", ...user, "--"];
  }

  static async make(): Promise<Namespace> {
    const holder = spawn(HOLD[0], HOLD.slice(1), { stdio: "ignore" });
    await inNamespaceOfItsOwn(holder);
    return new Namespace(holder);
  }

  /** Runs a program in it, as root. */
  run(...command: readonly string[]): void {
    run("nsenter", "--target", String(this.pid), "--net", "--", ...command);
  }

  /** Gives the device that has been moved here, `eth0`, its address. */
  address(ip: string): void {
    this.run("ip", "link", "set", "lo", "up");
    this.run("ip", "address", "add", `${ip}/24`, "dev", "eth0");
    this.run("ip", "link", "set", "eth0", "up");
  }

  end(): void {
    this.#holder.kill("SIGKILL");
  }
}

/** Throws where the process is in the machine's own network. */
export function expectOwnNetwork(): void {
  const outside = process.env[INSIDE];
  if (outside === undefined || outside === readlinkSync("/proc/self/ns/net"))
    throw new Error(
      "this process is in the machine's own network: rerunInOwnNetwork first (a test: run it by npm test -- chaos)",
    );
}

/** Of the host of that number, from 0 on. */
export const ipOf = (number: number): string => `10.88.0.${number + 11}`;

class BridgedHost implements NetworkHost {
  readonly ip: string;
  readonly enter: readonly string[];
  readonly #namespace: Namespace;
  readonly #link: string;
  readonly #lost = new Set<string>();

  constructor(namespace: Namespace, { ip, link }: { ip: string; link: string }) {
    this.#namespace = namespace;
    this.#link = link;
    this.ip = ip;
    this.enter = namespace.enter;
  }

  unplug(): void {
    run("bridge", "link", "set", "dev", this.#link, "state", "0");
  }

  plug(): void {
    run("bridge", "link", "set", "dev", this.#link, "state", "3");
  }

  loseTo(ip: string): boolean {
    if (this.#lost.has(ip)) return false;
    this.#lost.add(ip);
    this.#namespace.run("ip", "neighbour", "replace", ip, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent");
    return true;
  }

  reachAgain(ip: string): void {
    if (!this.#lost.delete(ip)) return;
    this.#namespace.run("ip", "neighbour", "del", ip, "dev", "eth0");
  }

  end(): void {
    this.#namespace.end();
  }
}

/** Made once in a process, in the network that it was run again in. */
export class Network implements HostNetwork {
  readonly #hosts: BridgedHost[] = [];

  constructor() {
    expectOwnNetwork();
    run("ip", "link", "set", "lo", "up");
    run("ip", "link", "add", BRIDGE, "type", "bridge");
    run("ip", "address", "add", `${OWN_IP}/24`, "dev", BRIDGE);
    run("ip", "link", "set", BRIDGE, "up");
  }

  async host(): Promise<NetworkHost> {
    const ip = ipOf(this.#hosts.length);
    const link = `host${this.#hosts.length}`;
    const namespace = await Namespace.make();
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(namespace.pid));
    run("ip", "link", "set", link, "master", BRIDGE, "up");
    namespace.address(ip);
    const host = new BridgedHost(namespace, { ip, link });
    this.#hosts.push(host);
    return host;
  }

  close(): void {
    for (const host of this.#hosts) host.end();
  }
}

async function inNamespaceOfItsOwn({ pid }: ChildProcess): Promise<void> {
  const own = readlinkSync("/proc/self/ns/net");
  const until = performance.now() + LINK_LIMIT_MS;
  while (performance.now() < until) {
    try {
      if (readlinkSync(`/proc/${pid}/ns/net`) !== own) return;
    } catch {
      // It is only just starting, or it could not.
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("no network namespace was made");
}

export function run(program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
}
