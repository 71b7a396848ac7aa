// Starts a shard for a test: makes folder, secrets, configuration files and store, then the sitters.

import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BtrfsSide } from "./btrfs-shard.ts";
import { DirectorySide } from "./directory-shard.ts";
import { TestPeer } from "./peer.ts";
import type { Host } from "./hosts.ts";
import { freePorts } from "./ports.ts";
import { type PostgresChoice, postgresBinaries } from "./postgres-binaries.ts";
import { currentRuntime, type Runtime } from "./runtime.ts";
import { SHARD_PATH, TestShard } from "./shard.ts";
import { startStore, type TestStore } from "./store.ts";
import { giveAway } from "./unprivileged.ts";
import { ZfsSide } from "./zfs-shard.ts";

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
  /** Of each peer. Default: all on this machine's loopback. */
  readonly hosts?: readonly Host[];
  /** Servers of the ZooKeeper. Default 1. */
  readonly storeMembers?: number;
  /** Where a ZooKeeper listens. Default: on loopback. */
  readonly storeAddress?: string;
  /** Data directories on a real ZFS of so many megabytes, and a backup server for each peer. Default: plain folders. */
  readonly zfsMegabytes?: number;
  /** The same on a real Btrfs. */
  readonly btrfsMegabytes?: number;
  /** The same on datasets in plain folders. */
  readonly directories?: boolean;
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
    members: options.storeMembers ?? 1,
    ...(options.storeAddress !== undefined && { address: options.storeAddress }),
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
  const { zfsMegabytes, btrfsMegabytes } = options;
  const zfs = zfsMegabytes === undefined ? undefined : await ZfsSide.open(runtime, zfsMegabytes);
  const btrfs =
    btrfsMegabytes === undefined
      ? undefined
      : await BtrfsSide.open(runtime, { megabytes: btrfsMegabytes, folder: join(folder, "peers") });
  const directories = options.directories === true ? new DirectorySide(runtime, join(folder, "peers")) : undefined;
  const storage = zfs ?? btrfs ?? directories;
  const peers: TestPeer[] = [];
  for (const [i, name] of NAMES.slice(0, count).entries()) {
    const host = options.hosts?.[i];
    const port = await freePorts(3);
    const peerFolder = join(folder, "peers", name);
    const config = peerConfig({ name, ip: host?.ip ?? "127.0.0.1", port, folder: peerFolder, secrets, binDir, store });
    peers.push(new TestPeer({ name, folder: peerFolder, port, runtime, config, ...(host && { host }) }));
  }
  for (const peer of peers) {
    await peer.prepare();
    await peer.configure({ ...options.config, ...(storage && { storage: storage.section(peer) }) });
    await storage?.prepare(peer);
    await storage?.startBackupServer(peer);
  }
  return new TestShard({ folder, peers, store, credentials, runtime, storage });
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
    hbaConfFile: "host all all samenet scram-sha-256",
  };
  for (const [key, path] of Object.entries(secrets)) {
    await writeFile(path, `${contents[key as keyof Secrets]}\n`, { mode: 0o600 });
    giveAway(path);
  }
  return secrets;
}

function peerConfig({
  name,
  ip,
  port,
  folder,
  secrets,
  binDir,
  store,
}: {
  name: string;
  ip: string;
  port: number;
  folder: string;
  secrets: Secrets;
  binDir: string;
  store: TestStore;
}): Readonly<Record<string, unknown>> {
  return {
    ip,
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
