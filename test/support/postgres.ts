// A peer's PostgreSQL for tests of the driver: real servers in a folder of their own, driven in this process.

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import type { PostgresAction } from "../../src/cluster/decision.ts";
import {
  NOBODY,
  type PostgresObservation,
  type PostgresSettings,
  type PrimaryServer,
  type StandbyServer,
} from "../../src/cluster/observation.ts";
import type { PeerAddress } from "../../src/cluster/state.ts";
import type { PostgresConfig } from "../../src/config/types.ts";
import type { PostgresServer } from "../../src/postgres/port.ts";
import type { PostgresStorage } from "../../src/postgres/real/dataset.ts";
import { realPostgres } from "../../src/postgres/real/server.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import type { Log, LogFields } from "../../src/world/port.ts";
import { freePorts } from "./ports.ts";
import { runAs } from "./unprivileged.ts";

/** PostgreSQL refuses root: from here on this test process is the unprivileged user. All that root alone can read must be loaded before. */
export function becomeUnprivileged(): void {
  const { credentials } = runAs();
  if (credentials.uid === undefined || credentials.gid === undefined || process.getuid?.() !== 0) return;
  process.setgroups?.([credentials.gid]);
  process.setgid?.(credentials.gid);
  process.setuid?.(credentials.uid);
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields | undefined;
}

export interface TestPeer {
  readonly config: PostgresConfig;
  readonly self: PeerAddress;
  readonly postgres: PostgresServer;
  readonly lines: readonly LogLine[];
  /** A second driver on the same directory, as a restarted sitter's. */
  reopen(): TestPeer;
  /** SQL as superuser over the sitter's socket, with an application_name that is not the sitter's: a client session. */
  sql(text: string): Promise<readonly Record<string, unknown>[]>;
  connect(options?: { user?: string; overTcp?: boolean; password?: string }): Promise<Client>;
  perform(action: PostgresAction): Promise<PostgresObservation>;
  observe(): Promise<PostgresObservation>;
  primary(): Promise<PrimaryServer>;
  standby(): Promise<StandbyServer>;
  apply(settings: Partial<PostgresSettings>): Promise<void>;
  /** Observes until it holds; fails with the last observation after the limit. */
  until(
    what: string,
    holds: (observation: PostgresObservation) => boolean,
    limitMs?: number,
  ): Promise<PostgresObservation>;
}

/** Peers that share a folder and the password files; all is stopped and removed by `cleanUp`. */
export class PostgresBench {
  readonly #binDir: string | undefined;
  readonly #folder: string;
  readonly #peers: TestPeer[] = [];
  readonly #clients: Client[] = [];

  private constructor(folder: string, binDir: string | undefined) {
    this.#folder = folder;
    this.#binDir = binDir;
  }

  /** `binDir`: else MANATEE_TEST_POSTGRES, else what the driver finds. */
  static async open(binDir = process.env["MANATEE_TEST_POSTGRES"]): Promise<PostgresBench> {
    becomeUnprivileged();
    return new PostgresBench(await mkdtemp(join(tmpdir(), "manatee-pg-")), binDir);
  }

  get folder(): string {
    return this.#folder;
  }

  async peer(name: string, overrides: Partial<PostgresConfig> = {}, storage?: PostgresStorage): Promise<TestPeer> {
    const port = await freePorts(1);
    const config: PostgresConfig = {
      dataDir: join(this.#folder, name, "data"),
      host: "127.0.0.1",
      port,
      binDir: this.#binDir,
      version: undefined,
      socketDir: undefined,
      superuser: "postgres",
      replicationUser: "replicator",
      replicationPasswordFile: join(this.#folder, "passwords", "replication"),
      superuserPasswordFile: join(this.#folder, "passwords", "superuser"),
      operatorConfigFile: undefined,
      operatorHbaFile: undefined,
      parameters: { shared_buffers: "16MB", max_connections: "30" },
      walKeepBytes: 64 * 1024 ** 2,
      walSenderTimeoutMs: 5000,
      probeLimitMs: 2000,
      startLimitMs: 30_000,
      stopLimitMs: 5000,
      forksDir: join(this.#folder, name, "forks"),
      freeBytesMin: 1024 ** 2,
      ...overrides,
    };
    const address: PeerAddress = {
      id: `127.0.0.1:${port}:${port}`,
      zoneId: name,
      ip: "127.0.0.1",
      pgUrl: `tcp://postgres@127.0.0.1:${port}/postgres`,
      backupUrl: `http://127.0.0.1:${port}`,
    };
    return this.#make(config, address, storage);
  }

  /** The same peer under another address. */
  withAddress({ config }: TestPeer, self: PeerAddress): TestPeer {
    return this.#make(config, self);
  }

  /** The same peer with another configuration, as after a restart of its sitter. */
  withConfig({ config, self }: TestPeer, changes: Partial<PostgresConfig>): TestPeer {
    return this.#make({ ...config, ...changes }, self);
  }

  #make(config: PostgresConfig, self: PeerAddress, storage?: PostgresStorage): TestPeer {
    const lines: LogLine[] = [];
    const postgres = realPostgres({
      config,
      shard: "test",
      self,
      log: collectingLog(lines),
      clock: realClock,
      timers: realTimers,
      random: realRandom,
      storage,
    });
    const peers = () => [{ ip: "127.0.0.1" }];
    const connect: TestPeer["connect"] = async ({ user, overTcp, password } = {}) => {
      const client = new Client({
        host: overTcp === true ? config.host : socketFolder(config),
        port: config.port,
        user: user ?? config.superuser,
        database: "postgres",
        application_name: "client",
        password: password ?? "",
        connectionTimeoutMillis: 5000,
      });
      client.on("error", () => undefined);
      await client.connect();
      this.#clients.push(client);
      return client;
    };
    const peer: TestPeer = {
      config,
      self,
      postgres,
      lines,
      reopen: () => this.#make(config, self, storage),
      connect,
      async sql(text) {
        const client = await connect();
        try {
          return (await client.query(text)).rows as Record<string, unknown>[];
        } finally {
          await client.end().catch(() => undefined);
        }
      },
      async perform(action) {
        await postgres.perform(action, peers());
        const observation = await peer.until(`${action.kind} is over`, ({ job }) => job === undefined, 100_000);
        if (observation.failure?.action === action.kind)
          throw Object.assign(new Error(`${action.kind} failed: ${observation.failure.message}`), {
            code: observation.failure.code,
          });
        return observation;
      },
      observe: () => postgres.observe(),
      async primary() {
        const { server } = await peer.until("it is a primary", (seen) => seen.server.kind === "primary");
        return server as PrimaryServer;
      },
      async standby() {
        const { server } = await peer.until("it is a standby", (seen) => seen.server.kind === "standby");
        return server as StandbyServer;
      },
      apply: (settings) => postgres.applySettings(settingsWith(settings), peers()),
      async until(what, holds, limitMs = 20_000) {
        const giveUpAt = performance.now() + limitMs;
        for (;;) {
          const observation = await postgres.observe();
          if (holds(observation)) return observation;
          if (performance.now() > giveUpAt)
            throw new Error(`not seen within ${limitMs} ms: ${what}; last: ${describe(observation)}`);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      },
    };
    this.#peers.push(peer);
    return peer;
  }

  /** Ends clients and servers (frozen ones, too), and removes all files. */
  async cleanUp(): Promise<void> {
    for (const client of this.#clients)
      (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    const failures: unknown[] = [];
    for (const { postgres } of this.#peers.reverse()) {
      try {
        await postgres.cancelJob();
        await postgres.perform({ kind: "stop", mode: "immediate" }, []);
        await postgres.close("leave");
      } catch (error) {
        // The others are stopped nevertheless.
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, "servers of this test could not be stopped");
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Of a server that serves nobody, unless said otherwise. */
export function settingsWith(settings: Partial<PostgresSettings> = {}): PostgresSettings {
  return { syncNames: [NOBODY], gate: "closed", upstream: null, ...settings };
}

/** A primary in one-node-write mode, open to clients. */
export async function startPrimary(peer: TestPeer, incarnation = "one"): Promise<void> {
  await peer.perform({ kind: "initdb", incarnation });
  await peer.perform({
    kind: "start",
    as: "primary",
    settings: settingsWith({ syncNames: [], gate: "open" }),
    unfinishedTimeline: undefined,
  });
  await peer.primary();
}

/** Copies `from` and starts as its standby; returns when it streams. */
export async function startStandby(peer: TestPeer, from: TestPeer, incarnation = "two"): Promise<void> {
  await peer.perform({ kind: "copy", from: from.self, incarnation });
  await follow(peer, from);
}

export async function follow(peer: TestPeer, from: TestPeer | undefined, unfinishedTimeline?: number): Promise<void> {
  await peer.perform({
    kind: "start",
    as: "standby",
    settings: settingsWith({ upstream: from?.self ?? null, gate: "open" }),
    unfinishedTimeline,
  });
  if (from) await peer.until("it streams", streams);
}

export function streams({ server }: PostgresObservation): boolean {
  return server.kind === "standby" && server.receiver.kind === "streaming";
}

/** Of a server that does not run here: what a snapshot of a running one shows, and must not hold for the next. */
export async function leftOfAnother({ config: { dataDir } }: TestPeer): Promise<readonly string[]> {
  const within = async (folder: string) => (await readdir(join(dataDir, folder))).map((name) => `${folder}/${name}`);
  const files = (await readdir(dataDir)).filter((name) =>
    ["postmaster.pid", "postmaster.opts", "recovery.signal"].includes(name),
  );
  return [...files, ...(await within("pg_replslot")), ...(await within("pg_wal/archive_status"))];
}

/** Starts it for the first time, with a closed gate, and stops it again: the answer to a client that the operator's rules of the source would let in without a word. */
export async function refusalBehindGate(peer: TestPeer, from: TestPeer): Promise<string> {
  const settings = settingsWith({ upstream: from.self });
  await peer.perform({ kind: "start", as: "standby", settings, unfinishedTimeline: undefined });
  await peer.standby();
  const answer = await peer.connect({ overTcp: true }).then(
    () => "let in",
    (error: Error) => error.message,
  );
  await peer.perform({ kind: "stop", mode: "fast" });
  return answer;
}

export function socketFolder(config: PostgresConfig): string {
  return config.socketDir ?? `${config.dataDir}.manatee/socket`;
}

export function describe(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) =>
    typeof field === "bigint" ? `0x${field.toString(16)}` : field,
  );
}

function collectingLog(lines: LogLine[]): Log {
  const take = (level: string) => (message: string, fields?: LogFields) => void lines.push({ level, message, fields });
  const log: Log = {
    trace: take("trace"),
    debug: take("debug"),
    info: take("info"),
    warn: take("warn"),
    error: take("error"),
    child: () => log,
  };
  return log;
}

/** Processes of that kind on the server, by pg_stat_activity. */
export async function backendPids(peer: TestPeer, condition: string): Promise<number[]> {
  const rows = await peer.sql(`select pid from pg_stat_activity where ${condition}`);
  return rows.map(({ pid }) => Number(pid));
}

/** The postmaster's, as it wrote it down. */
export async function postmasterPid({ config }: TestPeer): Promise<number> {
  return Number((await readFile(join(config.dataDir, "postmaster.pid"), "utf8")).split("\n")[0]);
}

/** Waits for a condition outside the driver; fails after the limit. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs = 15_000,
): Promise<void> {
  const giveUpAt = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > giveUpAt) throw new Error(`not seen within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
