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

export class NetworkHost implements Host {
  readonly ip: string;
  readonly enter: readonly string[];
  readonly #holder: ChildProcess;
  readonly #link: string;
  readonly #lost = new Set<string>();

  constructor(holder: ChildProcess, { ip, link }: { ip: string; link: string }) {
    const { uid, gid } = runAs().credentials;
    const user = uid === undefined || gid === undefined ? [] : ["--setuid", String(uid), "--setgid", String(gid)];
    this.#holder = holder;
    this.#link = link;
    this.ip = ip;
    this.enter = ["nsenter", "--target", String(holder.pid), "--net", ...user, "--"];
  }

  /** Its packets, and those to it, vanish from now on. */
  unplug(): void {
    run("bridge", "link", "set", "dev", this.#link, "state", "0");
  }

  plug(): void {
    run("bridge", "link", "set", "dev", this.#link, "state", "3");
  }

  /** What it sends to that address vanishes; what comes from there still arrives. False: it does so already. */
  loseTo(ip: string): boolean {
    if (this.#lost.has(ip)) return false;
    this.#lost.add(ip);
    this.#inside("ip", "neighbour", "replace", ip, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent");
    return true;
  }

  reachAgain(ip: string): void {
    if (!this.#lost.delete(ip)) return;
    this.#inside("ip", "neighbour", "del", ip, "dev", "eth0");
  }

  end(): void {
    this.#holder.kill("SIGKILL");
  }

  #inside(...command: readonly string[]): void {
    run("nsenter", "--target", String(this.#holder.pid), "--net", "--", ...command);
  }
}

/** Made once in a process, in the network that it was run again in. */
export class Network {
  readonly hosts: NetworkHost[] = [];

  constructor() {
    const outside = process.env[INSIDE];
    if (outside === undefined || outside === readlinkSync("/proc/self/ns/net"))
      throw new Error(
        "this process is in the machine's own network: rerunInOwnNetwork first (a test: run it by npm test -- chaos)",
      );
    run("ip", "link", "set", "lo", "up");
    run("ip", "link", "add", BRIDGE, "type", "bridge");
    run("ip", "address", "add", `${OWN_IP}/24`, "dev", BRIDGE);
    run("ip", "link", "set", BRIDGE, "up");
  }

  async host(): Promise<NetworkHost> {
    const number = this.hosts.length + 11;
    const ip = `10.88.0.${number}`;
    const link = `host${number}`;
    const holder = spawn(HOLD[0], HOLD.slice(1), { stdio: "ignore" });
    await inNamespaceOfItsOwn(holder);
    const inside = ["nsenter", "--target", String(holder.pid), "--net", "--"] as const;
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", String(holder.pid));
    run("ip", "link", "set", link, "master", BRIDGE, "up");
    run(...inside, "ip", "link", "set", "lo", "up");
    run(...inside, "ip", "address", "add", `${ip}/24`, "dev", "eth0");
    run(...inside, "ip", "link", "set", "eth0", "up");
    const host = new NetworkHost(holder, { ip, link });
    this.hosts.push(host);
    return host;
  }

  close(): void {
    for (const host of this.hosts) host.end();
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

function run(program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
}
