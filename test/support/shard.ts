// A whole shard of real processes for one test: store, sitters, PostgreSQL, clients. It owns its folder, its ports and its processes, and
// fails the test if one of them outlives it. start-shard.ts makes it.

import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import type { PeerReport } from "../../src/status/report.ts";
import type { Reign } from "./checker.ts";
import { type HistoryDocument, type ShardDocuments, shardDocuments, type StateDocument } from "./documents.ts";
import { assertHistoryHolds, assertPeersEqual, connect } from "./finals.ts";
import { History } from "./history.ts";
import type { StorageOfShard } from "./storage-shard.ts";
import { ZfsSide } from "./zfs-shard.ts";
import type { TestPeer } from "./peer.ts";
import { describe, killAllIn, processesIn, signal } from "./processes.ts";
import type { Runtime } from "./runtime.ts";
import type { TestStore } from "./store.ts";
import { isComplete, tellStory } from "./story.ts";
import { runAs } from "./unprivileged.ts";
import { type Credentials, startWorkload, TABLE, type Workload } from "./writer.ts";

export interface Snapshot {
  readonly state: StateDocument | undefined;
  readonly version: number | undefined;
  readonly present: readonly string[];
  /** By peer name; undefined: its sitter doesn't answer. */
  readonly reports: Readonly<Record<string, PeerReport | undefined>>;
}

export interface AdmResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export const SHARD_PATH = "/manatee/1.ledger.test";
/** Of anything that is expected to happen at once, on a busy machine. */
export const SOON_MS = 60_000;
/** `invalid_authorization_specification`: pg_hba.conf rejects. */
const SHUT = "28000";
/** Of forming a shard or a full copy. */
export const LONG_MS = 240_000;

export class TestShard {
  readonly folder: string;
  readonly peers: readonly TestPeer[];
  readonly store: TestStore;
  history = new History();
  readonly credentials: Credentials;
  readonly shardPath = SHARD_PATH;
  readonly #storage: StorageOfShard | undefined;
  readonly #runtime: Runtime;
  readonly #documents: ShardDocuments;
  readonly #workloads: Workload[] = [];
  readonly #clients: pg.Client[] = [];
  readonly #reigns = new Map<string, Reign>();
  #stopped = false;

  constructor(parts: {
    folder: string;
    peers: readonly TestPeer[];
    store: TestStore;
    credentials: Credentials;
    runtime: Runtime;
    storage?: StorageOfShard | undefined;
  }) {
    this.folder = parts.folder;
    this.peers = parts.peers;
    this.store = parts.store;
    this.credentials = parts.credentials;
    this.#runtime = parts.runtime;
    this.#storage = parts.storage;
    this.#documents = shardDocuments(parts.store, SHARD_PATH);
    process.once("exit", this.#killAtExit);
  }

  /** Of a shard that was started on one. */
  get zfs(): ZfsSide {
    if (!(this.#storage instanceof ZfsSide)) throw new Error("this shard does not lie on ZFS");
    return this.#storage;
  }

  /** What its data directories lie on. */
  get storage(): StorageOfShard {
    if (!this.#storage) throw new Error("this shard lies on plain folders");
    return this.#storage;
  }

  // --- looking

  async state(): Promise<StateDocument> {
    const found = await this.#documents.state();
    if (found === undefined) throw new Error("the shard has no state document");
    return found.state;
  }

  stateHistory(): Promise<readonly HistoryDocument[]> {
    return this.#documents.history();
  }

  async reports(): Promise<Readonly<Record<string, PeerReport | undefined>>> {
    return Object.fromEntries(
      await Promise.all(this.peers.map(async (peer) => [peer.name, await peer.report()] as const)),
    );
  }

  /** Store and sitters; what can't be read is undefined or empty. */
  async look(): Promise<Snapshot> {
    const readable = this.store.running;
    const [found, present, reports] = await Promise.all([
      readable ? this.#documents.state().catch(() => undefined) : undefined,
      readable ? this.#documents.present().catch(() => []) : [],
      this.reports(),
    ]);
    return { state: found?.state, version: found?.version, present, reports };
  }

  /** Looks until the predicate holds. Past the limit: an error that shows state, history and the sitters' last words. */
  async waitFor(
    description: string,
    predicate: (snapshot: Snapshot) => boolean | Promise<boolean>,
    limitMs = SOON_MS,
  ): Promise<Snapshot> {
    const until = performance.now() + limitMs;
    for (;;) {
      const snapshot = await this.look();
      if (await predicate(snapshot)) return snapshot;
      const dead = this.peers.find(({ endedByItself }) => endedByItself !== undefined);
      if (dead !== undefined)
        throw new Error(
          `the sitter of ${dead.name} ended by itself (${dead.endedByItself}), while waiting: ${description}\n${await this.story(snapshot)}`,
        );
      if (performance.now() > until)
        throw new Error(`not within ${limitMs} ms: ${description}\n${await this.story(snapshot)}`);
      await sleep(100);
    }
  }

  /** For people: where the shard stands, and how it got there. */
  async story(snapshot?: Snapshot): Promise<string> {
    const history = this.store.running ? await this.stateHistory().catch(() => []) : [];
    return tellStory({ snapshot: snapshot ?? (await this.look()), history, peers: this.peers });
  }

  /** Changes the document as the original's manatee-adm does: reads it whole, and writes it back on its version. */
  async editState(change: (state: StateDocument) => object): Promise<void> {
    const found = await this.#documents.state();
    if (found === undefined) throw new Error("the shard has no state document");
    await this.store.set(`${SHARD_PATH}/state`, Buffer.from(JSON.stringify(change(found.state))), found.version);
  }

  // --- peers by role

  async primary(): Promise<TestPeer> {
    return this.peer((await this.state()).primary.id);
  }

  async sync(): Promise<TestPeer> {
    const { sync } = await this.state();
    if (sync === null) throw new Error("the shard has no sync");
    return this.peer(sync.id);
  }

  async async(index = 0): Promise<TestPeer> {
    const peer = (await this.state()).async[index];
    if (peer === undefined) throw new Error(`the shard has no async ${index}`);
    return this.peer(peer.id);
  }

  peer(id: string): TestPeer {
    const found = this.peers.find((peer) => peer.id === id || peer.name === id);
    if (found === undefined) throw new Error(`no peer of this test has the id ${id}`);
    return found;
  }

  // --- clients

  /** A connection by password, closed at the end of the test. */
  async client(peer: TestPeer): Promise<pg.Client> {
    const client = await connect({ host: peer.ip, port: peer.port, ...this.credentials });
    this.#clients.push(client);
    return client;
  }

  /** One statement on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(
    peer: TestPeer,
    text: string,
    values: readonly unknown[] = [],
  ): Promise<readonly Row[]> {
    const client = await this.#admitted(peer);
    try {
      return (await client.query<Row>(text, [...values])).rows;
    } finally {
      await client.end();
    }
  }

  /** A standby that receives from the primary beside its sync lets nobody read meanwhile: that is waited for. */
  async #admitted(peer: TestPeer): Promise<pg.Client> {
    const until = performance.now() + 2 * SOON_MS;
    for (;;)
      try {
        return await connect({ host: peer.ip, port: peer.port, ...this.credentials });
      } catch (error) {
        if ((error as { code?: string }).code !== SHUT || performance.now() > until) throw error;
        await sleep(200);
      }
  }

  /** Clients that write (and one that reads) until the test stops them. Makes the table. */
  async writer({
    clients = 4,
    pauseMs = 25,
    readEveryMs = 250,
    spread = false,
    attemptLimitMs = 1_000,
  } = {}): Promise<Workload> {
    await this.query(
      await this.primary(),
      `CREATE TABLE IF NOT EXISTS ${TABLE} (id bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())`,
    );
    const workload = startWorkload({
      history: this.history,
      endpoints: this.peers.map(({ ip, port }) => ({ host: ip, port })),
      credentials: this.credentials,
      clients,
      pauseMs,
      readEveryMs,
      spread,
      attemptLimitMs,
    });
    this.#workloads.push(workload);
    await this.waitForWrites(5);
    return workload;
  }

  /** Waits until so many more inserts are acknowledged. */
  async waitForWrites(count: number, limitMs = SOON_MS): Promise<void> {
    const goal = this.history.acknowledged() + count;
    await this.waitFor(`${count} more inserts are acknowledged`, () => this.history.acknowledged() >= goal, limitMs);
  }

  /** Waits until this peer acknowledges an insert. */
  async waitForWritesOn(peer: TestPeer, limitMs = SOON_MS): Promise<void> {
    const begun = this.history.now();
    await this.waitFor(
      `${peer.name} acknowledges inserts`,
      () =>
        this.history.operations.some(
          (operation) =>
            operation.kind === "insert" &&
            operation.outcome === "ok" &&
            operation.invokedAt >= begun &&
            operation.answerer?.peer === String(peer.port),
        ),
      limitMs,
    );
  }

  // --- tools

  /** Runs manatee-adm. Never rejects for its exit status. */
  adm(...args: readonly string[]): Promise<AdmResult> {
    return this.tool("manatee-adm", args);
  }

  /** Runs one more sitter, which is expected to end by itself. */
  runSitter(configFile: string): Promise<AdmResult> {
    return this.tool("manatee-sitter", ["-f", configFile], 20_000);
  }

  tool(
    name: "manatee-adm" | "manatee-stat" | "manatee-sitter",
    args: readonly string[],
    limitMs = 60_000,
  ): Promise<AdmResult> {
    const options = {
      ...runAs().credentials,
      cwd: this.folder,
      timeout: limitMs,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: this.folder,
        LANG: "C.UTF-8",
        SHARD: SHARD_PATH.slice("/manatee/".length),
        ...this.store.environment,
      },
    };
    return new Promise((resolve) => {
      execFile(
        this.#runtime.node,
        [join(this.#runtime.folder, "bin", name), ...args],
        options,
        (error, stdout, stderr) => {
          const status = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
          resolve({ status, stdout, stderr });
        },
      );
    });
  }

  // --- the end

  /** Every peer of the state is in the chain and streams, nothing is provisional. */
  async waitForChain(peers: readonly TestPeer[] = this.peers, limitMs = LONG_MS): Promise<Snapshot> {
    return this.waitFor(
      `${peers.map(({ name }) => name).join(", ")} form a chain that streams`,
      ({ state, reports }) => state !== undefined && isComplete(state, reports, peers),
      limitMs,
    );
  }

  /** Stops the clients, waits until all these peers are back, and judges the history. */
  async check(peers: readonly TestPeer[] = this.peers): Promise<void> {
    await this.#stopClients();
    await this.waitForChain(peers);
    await this.rememberReigns();
    await assertHistoryHolds(this, { peers, reigns: [...this.#reigns.values()] });
  }

  /** As {@link check} where an operator has accepted losses: the peers must be equal, the history may not hold. */
  async checkEqual(peers: readonly TestPeer[] = this.peers): Promise<void> {
    await this.#stopClients();
    await this.waitForChain(peers);
    await assertPeersEqual(this, peers);
  }

  /** After {@link check}: forgets what was written and seen, and empties the table, so that a long run does not drown in its own past. */
  async beginAnew(): Promise<void> {
    await this.query(await this.primary(), `TRUNCATE ${TABLE}`);
    this.history = this.history.successor();
  }

  /** Reads the shard's history while it is there, for the checker. */
  async rememberReigns(): Promise<void> {
    for (const { state } of await this.stateHistory()) {
      const reign = {
        generation: state.generation,
        primary: String(this.peer(state.primary.id).port),
        timeline: state.timeline ?? 0,
      };
      this.#reigns.set(JSON.stringify(reign), reign);
    }
  }

  async #stopClients(): Promise<void> {
    await Promise.all(this.#workloads.splice(0).map((workload) => workload.stop()));
  }

  /** Ends everything, and throws if something had to be forced or was left over. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    process.off("exit", this.#killAtExit);
    const problems: string[] = [];
    await this.#stopClients();
    for (const client of this.#clients) await client.end().catch(() => undefined);
    for (const peer of this.peers) peer.thaw();
    await this.#storage?.stopServices().catch((error: Error) => problems.push(error.message));
    const ended = await Promise.allSettled(this.peers.map((peer) => peer.stopSitter()));
    for (const result of ended) if (result.status === "rejected") problems.push((result.reason as Error).message);
    if (problems.length === 0) {
      const left = await this.#waitForEnd();
      if (left.length > 0) problems.push(`left behind: ${left.join("; ")}`);
    }
    if (problems.length > 0) problems.push(await this.#lastWords());
    await killAllIn(join(this.folder, "peers"));
    await this.store.dispose().catch((error: Error) => problems.push(error.message));
    await killAllIn(this.folder);
    await this.#storage?.close().catch((error: Error) => problems.push(error.message));
    if (process.env["MANATEE_TEST_KEEP"] === undefined) await rm(this.folder, { recursive: true, force: true });
    if (problems.length > 0) throw new Error(`the shard did not end in order:\n${problems.join("\n")}`);
  }

  /** PostgreSQL is stopped by its sitter; a process that is just exiting is not a leak. */
  async #waitForEnd(): Promise<readonly string[]> {
    const until = performance.now() + 3000;
    for (;;) {
      const left = processesIn(join(this.folder, "peers")).map(describe);
      if (left.length === 0 || performance.now() > until) return left;
      await sleep(50);
    }
  }

  async #lastWords(): Promise<string> {
    const tails = await Promise.all(this.peers.map(async (peer) => `${peer.name}:\n${await peer.logTail(10)}`));
    return tails.join("\n");
  }

  readonly #killAtExit = (): void => {
    for (const { pid } of processesIn(this.folder)) signal(pid, "SIGKILL");
  };
}
