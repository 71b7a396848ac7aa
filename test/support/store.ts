// The store of a test's shard: a real ZooKeeper, or the embedded store.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { StoreConfig } from "../../src/config/types.ts";
import type { Coordination, Session } from "../../src/coordination/port.ts";
import { coordinationOf } from "../../src/main/coordination-of.ts";
import type { Log } from "../../src/world/port.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import type { NodeReader } from "./documents.ts";
import { NodeRelay } from "./node-relay.ts";
import { describe, processesIn } from "./processes.ts";
import type { Runtime } from "./runtime.ts";
import { giveAway } from "./unprivileged.ts";
import { startEnsemble, startZooKeeper, type ZooKeeperEnsemble } from "./zookeeper-server.ts";

export interface TestStore extends NodeReader {
  readonly kind: "zookeeper" | "local";
  /** Of a ZooKeeper of several servers. */
  readonly ensemble: ZooKeeperEnsemble | undefined;
  /** false while it is stopped, frozen or wiped by the test. */
  readonly running: boolean;
  /** Of the sitter's configuration. */
  readonly section: Readonly<Record<string, unknown>>;
  /** By which the tools find it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Writes as the original's tools do. */
  set(path: string, data: Uint8Array, version: number): Promise<void>;
  /** As a crash. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Of a stopped one: all that it held. */
  wipe(): Promise<void>;
  freeze(): void;
  thaw(): void;
  dispose(): Promise<void>;
}

const DIGEST = "manatee:tests only";
/** How long a look at the store may take. */
const READ_LIMIT_MS = 3000;
/** The embedded store's process goes when its last client has. */
const EMBEDDED_END_LIMIT_MS = 15_000;

export async function startStore({
  kind,
  folder,
  sessionTimeoutMs,
  runtime,
  address,
  members = 1,
}: {
  kind: "zookeeper" | "local";
  folder: string;
  sessionTimeoutMs: number;
  runtime: Runtime;
  address?: string;
  /** Of the ensemble, where it is a ZooKeeper. */
  members?: number;
}): Promise<TestStore> {
  await mkdir(folder, { mode: 0o700 });
  return kind === "zookeeper"
    ? startZooKeeperStore(folder, { sessionTimeoutMs, address, members })
    : embeddedStore(folder, sessionTimeoutMs, runtime);
}

async function startZooKeeperStore(
  folder: string,
  { sessionTimeoutMs, address, members }: { sessionTimeoutMs: number; address: string | undefined; members: number },
): Promise<TestStore> {
  const options = { dir: folder, ...(address !== undefined && { address }) };
  const ensemble = members > 1 ? await startEnsemble(members, options) : undefined;
  const servers = ensemble?.members ?? [await startZooKeeper(options)];
  const connectString = servers.map((server) => server.connectString).join(",");
  const config: StoreConfig = {
    kind: "zookeeper",
    connectString,
    sessionTimeoutMs,
    digest: DIGEST,
    saslDigest: undefined,
    tls: undefined,
  };
  const nodes = new Nodes(config);
  let running = true;
  return {
    kind: "zookeeper",
    ensemble,
    get running() {
      return running;
    },
    section: { kind: "zookeeper", connectString, sessionTimeoutMs, digest: DIGEST },
    environment: { ZK_IPS: connectString, MANATEE_ZK_DIGEST: DIGEST },
    read: (path) => nodes.read(path),
    list: (path) => nodes.list(path),
    set: (path, data, version) => nodes.set(path, data, version),
    async stop() {
      running = false;
      await Promise.all(servers.map((server) => server.kill()));
    },
    async start() {
      await Promise.all(servers.map((server) => server.restart()));
      running = true;
    },
    async wipe() {
      if (running) throw new Error("only a stopped store can be wiped");
      if (ensemble) throw new Error("an ensemble is not wiped");
      await rm(join(folder, "data"), { recursive: true, force: true });
      await mkdir(join(folder, "data"));
    },
    freeze() {
      running = false;
      for (const server of servers) server.freeze();
    },
    thaw() {
      for (const server of servers) server.thaw();
      running = true;
    },
    async dispose() {
      await nodes.close();
      await Promise.all(servers.map((server) => server.kill()));
    },
  };
}

/** Started by whoever needs it first, and again where it died: it can't be taken away. It ends when nobody is connected any more. */
function embeddedStore(folder: string, sessionTimeoutMs: number, runtime: Runtime): TestStore {
  giveAway(folder);
  const section = { kind: "local", directory: folder, sessionTimeoutMs } as const;
  const nodes = new NodeRelay(runtime, section);
  const impossible = (): never => {
    throw new Error("the embedded store can't be taken away");
  };
  return {
    kind: "local",
    ensemble: undefined,
    running: true,
    section,
    environment: { MANATEE_STORE_DIR: folder },
    read: (path) => nodes.read(path),
    list: (path) => nodes.list(path),
    set: (path, data, version) => nodes.set(path, data, version),
    stop: impossible,
    start: impossible,
    wipe: impossible,
    freeze: impossible,
    thaw: impossible,
    async dispose() {
      await nodes.close();
      await waitUntilEnded(folder);
    },
  };
}

async function waitUntilEnded(folder: string): Promise<void> {
  const until = performance.now() + EMBEDDED_END_LIMIT_MS;
  for (;;) {
    const left = processesIn(folder);
    if (left.length === 0) return;
    if (performance.now() > until) throw new Error(`the embedded store did not end: ${left.map(describe).join("; ")}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A session of the product's own driver, renewed where it ended. */
class Nodes {
  readonly #coordination: Coordination;
  readonly #sessionTimeoutMs: number;
  #session: Session | undefined;

  constructor(config: StoreConfig) {
    this.#coordination = coordinationOf(config, {
      log: SILENT,
      clock: realClock,
      timers: realTimers,
      random: realRandom,
    });
    this.#sessionTimeoutMs = config.sessionTimeoutMs;
  }

  #current(): Session {
    const ended = this.#session?.status.kind === "expired" || this.#session?.status.kind === "closed";
    if (this.#session === undefined || ended)
      this.#session = this.#coordination.open({ sessionTimeoutMs: this.#sessionTimeoutMs });
    return this.#session;
  }

  async #connected(): Promise<Session> {
    const until = performance.now() + READ_LIMIT_MS;
    for (;;) {
      const session = this.#current();
      if (session.status.kind === "connected") return session;
      if (performance.now() > until) throw new Error(`no connection to the store within ${READ_LIMIT_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async read(path: string) {
    return (await this.#connected()).read(path, { signal: AbortSignal.timeout(READ_LIMIT_MS) });
  }

  async list(path: string) {
    return (await this.#connected()).list(path, { signal: AbortSignal.timeout(READ_LIMIT_MS) });
  }

  async set(path: string, data: Uint8Array, version: number): Promise<void> {
    const outcome = await (await this.#connected()).write([{ kind: "set", path, data, version }]);
    if (outcome.kind !== "yes") throw new Error(`${path} was not written: ${JSON.stringify(outcome)}`);
  }

  async close(): Promise<void> {
    await this.#session?.close({ limitMs: 1000 });
  }
}

const SILENT: Log = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => SILENT,
};
