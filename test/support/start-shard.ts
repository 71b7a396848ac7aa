// Starts a shard for a test: makes folder, secrets, configuration files and store, then the sitters.

import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TestPeer } from "./peer.ts";
import { freePorts } from "./ports.ts";
import { type PostgresChoice, postgresBinaries } from "./postgres-binaries.ts";
import { currentRuntime, type Runtime } from "./runtime.ts";
import { SHARD_PATH, TestShard } from "./shard.ts";
import { startStore, type TestStore } from "./store.ts";
import { giveAway } from "./unprivileged.ts";

export interface ShardOptions {
  /** Default 3. */
  readonly peers?: number;
  /** Of these, so many are started. Default: all. */
  readonly started?: number;
  readonly store?: "zookeeper" | "local";
  readonly postgres?: PostgresChoice;
  readonly sessionTimeoutMs?: number;
  /** Merged into each peer's configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Waits until the chain is complete and streams. Default true. */
  readonly formed?: boolean;
  readonly runtime?: Runtime;
}

const NAMES = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"] as const;

/** Starts a shard; what was started is ended if it does not come up. */
export async function startShard(options: ShardOptions = {}): Promise<TestShard> {
  const runtime = options.runtime ?? currentRuntime();
  const folder = await mkdtemp(join(tmpdir(), "manatee-shard-"));
  await chmod(folder, 0o755);
  giveAway(folder);
  const store = await startStore({
    kind: options.store ?? "zookeeper",
    folder: join(folder, "store"),
    sessionTimeoutMs: options.sessionTimeoutMs ?? 4000,
    runtime,
  });
  const shard = await assemble({ options, runtime, folder, store });
  try {
    for (const peer of shard.peers.slice(0, options.started ?? shard.peers.length)) peer.startSitter();
    if (options.formed ?? true) await shard.waitForChain(shard.peers.slice(0, options.started ?? shard.peers.length));
  } catch (error) {
    await shard.stop().catch((later: unknown) => console.error(later));
    throw error;
  }
  return shard;
}

async function assemble({
  options,
  runtime,
  folder,
  store,
}: {
  options: ShardOptions;
  runtime: Runtime;
  folder: string;
  store: TestStore;
}): Promise<TestShard> {
  const credentials = { user: "postgres", password: randomBytes(12).toString("hex"), database: "postgres" };
  const secrets = await writeSecrets(folder, credentials.password);
  const binDir = await postgresBinaries(options.postgres ?? "system", runtime);
  const count = options.peers ?? 3;
  await mkdir(join(folder, "peers"), { mode: 0o755 });
  giveAway(join(folder, "peers"));
  const peers: TestPeer[] = [];
  for (const name of NAMES.slice(0, count)) {
    const port = await freePorts(3);
    const peerFolder = join(folder, "peers", name);
    const config = peerConfig({ name, port, folder: peerFolder, secrets, binDir, store });
    peers.push(new TestPeer({ name, folder: peerFolder, port, runtime, config }));
  }
  for (const peer of peers) {
    await peer.prepare();
    await peer.configure(options.config ?? {});
  }
  return new TestShard({ folder, peers, store, credentials, runtime });
}

interface Secrets {
  readonly superuserPasswordFile: string;
  readonly replicationPasswordFile: string;
  readonly hbaConfFile: string;
}

async function writeSecrets(folder: string, superuserPassword: string): Promise<Secrets> {
  const secrets = {
    superuserPasswordFile: join(folder, "superuser-password"),
    replicationPasswordFile: join(folder, "replication-password"),
    hbaConfFile: join(folder, "operator-hba.conf"),
  };
  const contents = {
    superuserPasswordFile: superuserPassword,
    replicationPasswordFile: randomBytes(12).toString("hex"),
    hbaConfFile: "host all all 127.0.0.1/32 scram-sha-256",
  };
  for (const [key, path] of Object.entries(secrets)) {
    await writeFile(path, `${contents[key as keyof Secrets]}\n`, { mode: 0o600 });
    giveAway(path);
  }
  return secrets;
}

function peerConfig({
  name,
  port,
  folder,
  secrets,
  binDir,
  store,
}: {
  name: string;
  port: number;
  folder: string;
  secrets: Secrets;
  binDir: string;
  store: TestStore;
}): Readonly<Record<string, unknown>> {
  return {
    ip: "127.0.0.1",
    zoneId: name,
    shardPath: SHARD_PATH,
    postgresPort: port,
    backupPort: port + 2,
    store: store.section,
    postgres: {
      dataDir: join(folder, "data"),
      binDir,
      ...secrets,
      parameters: { shared_buffers: "16MB", max_connections: "60" },
      walKeepBytes: "256MiB",
      freeBytesMin: "16MiB",
    },
    // A test may fail over more often than a shard should; silence lasts less than on a real network.
    policy: { takeoversPerHourMax: 1000, suspectMs: 1000 },
  };
}
