// Three peers on loopback, each with a folder, ports and a configuration file of its own, run by real manatee-sitter processes.

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts, kill, type Started, start, workingIn } from "./processes.ts";

/** Below dist/demo: the runtime's root. */
const runtime = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

export type StoreChoice =
  | { readonly kind: "local"; readonly directory: string }
  | { readonly kind: "zookeeper"; readonly address: string };

/** The session's time: what bounds a failover where nothing else tells that a peer is gone. */
const sessionTimeoutMs = 4_000;

/** Between the PostgreSQL ports of two peers: PostgreSQL, status, backup. */
const portsEach = 3;

/** How long a sitter may take to leave its PostgreSQL. */
const leaveLimitMs = 5_000;

export class Peer {
  readonly name: string;
  readonly folder: string;
  readonly pgPort: number;
  readonly log: string;
  readonly #config: string;
  #sitter: Started | undefined;

  constructor({ name, folder, pgPort }: { name: string; folder: string; pgPort: number }) {
    this.name = name;
    this.folder = folder;
    this.pgPort = pgPort;
    this.log = join(folder, "sitter.log");
    this.#config = join(folder, "sitter.json");
  }

  get dataDir(): string {
    return join(this.folder, "data");
  }

  get statusPort(): number {
    return this.pgPort + 1;
  }

  get id(): string {
    return `127.0.0.1:${this.pgPort}:${this.pgPort + 2}`;
  }

  /** undefined: it does not run. */
  get sitterPid(): number | undefined {
    return this.#sitter?.pid;
  }

  /** undefined: no PostgreSQL runs on its data directory, as far as its pid file says. */
  get postgresPid(): number | undefined {
    const file = join(this.dataDir, "postmaster.pid");
    return existsSync(file) ? Number(readFileSync(file, "utf8").split("\n", 1)[0]) : undefined;
  }

  configure({ store, postgres, password }: { store: StoreChoice; postgres: string; password: string }): void {
    mkdirSync(this.folder, { recursive: true });
    const secret = (name: string, content: string): string => {
      const file = join(this.folder, name);
      writeFileSync(file, `${content}\n`, { mode: 0o600 });
      return file;
    };
    const config = {
      ip: "127.0.0.1",
      zoneId: this.name,
      shardPath: "/manatee/demo",
      postgresPort: this.pgPort,
      backupPort: this.pgPort + 2,
      store:
        store.kind === "local"
          ? { kind: "local", directory: store.directory, sessionTimeoutMs }
          : { kind: "zookeeper", connectString: store.address, sessionTimeoutMs },
      postgres: {
        dataDir: this.dataDir,
        binDir: postgres,
        superuserPasswordFile: secret("superuser-password", password),
        replicationPasswordFile: secret("replication-password", password),
        walKeepBytes: "128MiB",
        freeBytesMin: "64MiB",
        // Dynamic shared memory as files in the data directory: a server that is killed must not leave any elsewhere.
        parameters: { shared_buffers: "32MB", max_connections: 40, dynamic_shared_memory_type: "mmap" },
      },
      policy: { bootstrapPeersMin: 3 },
    };
    writeFileSync(this.#config, `${JSON.stringify(config, null, 2)}\n`);
  }

  startSitter(): void {
    const sitter = start(process.execPath, [join(runtime, "bin/manatee-sitter"), "-f", this.#config, "-v"], {
      cwd: this.folder,
      log: this.log,
    });
    this.#sitter = sitter;
    void sitter.exited.then(() => {
      if (this.#sitter === sitter) this.#sitter = undefined;
    });
  }

  /** The sitter alone; PostgreSQL and the session go on, and the next sitter takes both up. */
  async leaveSitter(): Promise<void> {
    const sitter = this.#sitter;
    if (!sitter) return;
    sitter.process.kill("SIGUSR2");
    const tooLate = setTimeout(() => kill(sitter.pid), leaveLimitMs);
    await sitter.exited;
    clearTimeout(tooLate);
  }

  /** What a crash of its machine does: the sitter and every process of its PostgreSQL, in an instant. */
  killHard(): void {
    if (this.#sitter) kill(this.#sitter.pid);
    for (let left = workingIn(this.dataDir); left.length > 0; left = workingIn(this.dataDir))
      for (const pid of left) kill(pid);
  }
}

export interface Shard {
  readonly peers: readonly Peer[];
  readonly store: StoreChoice;
  readonly password: string;
}

export async function makeShard({
  folder,
  store,
  postgres,
}: {
  folder: string;
  store: StoreChoice;
  postgres: string;
}): Promise<Shard> {
  const names = ["alpha", "bravo", "charlie"];
  const first = await freePorts(names.length * portsEach, 5440);
  const password = randomBytes(8).toString("hex");
  const peers = names.map((name, i) => new Peer({ name, folder: join(folder, name), pgPort: first + i * portsEach }));
  for (const peer of peers) peer.configure({ store, postgres, password });
  return { peers, store, password };
}
