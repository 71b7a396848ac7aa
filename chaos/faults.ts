// Inflicts planned faults on a running shard, and mends them. Faults meet: what one of them took away, another one may miss, and nothing is mended twice.

import { setTimeout as sleep } from "node:timers/promises";
import { OWN_IP, type NetworkHost } from "../test/support/hosts.ts";
import type { StateDocument } from "../test/support/documents.ts";
import type { TestPeer } from "../test/support/peer.ts";
import { signal } from "../test/support/processes.ts";
import type { TestShard } from "../test/support/shard.ts";
import { between, type Random } from "../simulation/random.ts";
import type { Episode, PlannedFault, Role } from "./schedule.ts";

export interface Scene {
  readonly shard: TestShard;
  readonly hostOf: (peer: TestPeer) => NetworkHost;
  readonly random: Random;
}

/** Tells each fault as it happens. */
type Tell = (line: string) => void;

/** Undoes one fault. */
type Mend = () => Promise<void> | void;

/** Rejects with what kept a fault from being inflicted or mended, other than another fault. Resolves when all is mended. */
export async function befall(scene: Scene, episode: Episode, tell: Tell): Promise<void> {
  const faults = new Faults(scene, tell);
  const results = await Promise.allSettled(episode.faults.map((fault) => faults.run(fault)));
  await faults.mendAll();
  const failed = results.find((result) => result.status === "rejected");
  if (failed) throw failed.reason;
}

class Faults {
  readonly #scene: Scene;
  readonly #tell: Tell;
  readonly #beganAt = performance.now();
  readonly #cuts = new Set<() => void>();
  #state: StateDocument | undefined;
  #storeIsFrozen = false;

  constructor(scene: Scene, tell: Tell) {
    this.#scene = scene;
    this.#tell = tell;
  }

  async run(fault: PlannedFault): Promise<void> {
    await sleep(fault.atMs);
    const victim = await this.#peerOf(fault.victim);
    const mend = await this.#inflict(fault, victim);
    this.#say(`${fault.kind} of ${fault.victim} ${victim.name}${mend === undefined ? ": nothing to hit" : ""}`);
    if (mend === undefined) return;
    await sleep(fault.forMs);
    await mend();
    this.#say(`${fault.kind} of ${victim.name} is over`);
  }

  /** Whatever is still broken. A sitter that left by itself is started, too: a host's service manager would. */
  async mendAll(): Promise<void> {
    const { shard } = this.#scene;
    for (const undo of this.#cuts) undo();
    for (const peer of shard.peers) {
      peer.thaw();
      this.#restart(peer);
    }
    await this.#bringStoreBack();
  }

  #say(what: string): void {
    this.#tell(`${((performance.now() - this.#beganAt) / 1000).toFixed(2).padStart(6)} s  ${what}`);
  }

  /** By the last state that could be read: while the store is away, nobody's role changes. */
  async #peerOf(role: Role): Promise<TestPeer> {
    const { shard, random } = this.#scene;
    this.#state = (await shard.look()).state ?? this.#state;
    const state = this.#state;
    const id = role === "primary" ? state?.primary.id : role === "sync" ? state?.sync?.id : state?.async[0]?.id;
    if (id !== undefined) return shard.peer(id);
    return shard.peers[between(random, [0, shard.peers.length - 1])] as TestPeer;
  }

  /** undefined: there was nothing to hit. */
  async #inflict({ kind, victim: role, other }: PlannedFault, victim: TestPeer): Promise<Mend | undefined> {
    const { shard, hostOf } = this.#scene;
    switch (kind) {
      case "kill-postgres": {
        const pid = await victim.postmasterPid();
        return pid !== undefined && signal(pid, "SIGKILL") ? () => undefined : undefined;
      }
      case "kill-backend":
        return this.#killBackend(victim);
      case "kill-sitter":
        if (victim.sitterPid === undefined) return undefined;
        await victim.killSitter();
        return () => this.#restart(victim);
      case "crash-host":
        if (victim.leftovers().length === 0) return undefined;
        await victim.crash();
        return () => this.#restart(victim);
      case "freeze-sitter":
      case "freeze-postgres":
      case "freeze-host": {
        const what = { "freeze-sitter": "sitter", "freeze-postgres": "postgres", "freeze-host": "both" } as const;
        try {
          victim.freeze(what[kind]);
        } catch {
          return undefined;
        }
        return () => victim.thaw();
      }
      case "unplug-host": {
        const host = hostOf(victim);
        host.unplug();
        return this.#cut(() => host.plug());
      }
      case "cut-one-way": {
        const [host, from] = [hostOf(victim), await this.#peerOf(other)];
        // Where both roles fell to one peer: from the store, and from the clients, who are where it is.
        const ip = from === victim ? OWN_IP : from.ip;
        if (!host.loseTo(ip)) return undefined;
        return this.#cut(() => host.reachAgain(ip));
      }
      case "kill-store":
        if (!shard.store.running) return undefined;
        await shard.store.stop();
        return () => this.#bringStoreBack();
      case "freeze-store":
        if (!shard.store.running) return undefined;
        shard.store.freeze();
        this.#storeIsFrozen = true;
        return () => this.#bringStoreBack();
      case "switch-over": {
        if (!shard.store.running) return undefined;
        const asked = role === "async" ? ["-r", "async", "-i", "0"] : ["-r", "sync"];
        const heir = role === "primary" ? await this.#peerOf("sync") : victim;
        // It may be refused, or overtaken by another fault.
        const { status, stderr } = await shard.adm("promote", ...asked, "-n", heir.name, "-y", "--timeout", "20");
        if (status === 0) return () => undefined;
        this.#say(`promote: ${stderr.trimEnd().split("\n").at(-1) ?? ""}`);
        return undefined;
      }
    }
  }

  async #bringStoreBack(): Promise<void> {
    const { store } = this.#scene.shard;
    if (store.running) return;
    if (this.#storeIsFrozen) store.thaw();
    else await store.start();
    this.#storeIsFrozen = false;
  }

  #killBackend(victim: TestPeer): Mend | undefined {
    const backends = victim.postgresProcesses().filter(({ args }) => (args[0] ?? "").startsWith("postgres: "));
    if (backends.length === 0) return undefined;
    const { pid, args } = backends[between(this.#scene.random, [0, backends.length - 1])] as (typeof backends)[number];
    if (!signal(pid, "SIGKILL")) return undefined;
    this.#say(`that is ${args.join(" ").slice(0, 60)}`);
    return () => undefined;
  }

  #cut(undo: () => void): Mend {
    const once = (): void => {
      if (this.#cuts.delete(once)) undo();
    };
    this.#cuts.add(once);
    return once;
  }

  #restart(peer: TestPeer): void {
    if (peer.sitterPid === undefined) peer.startSitter();
  }
}
