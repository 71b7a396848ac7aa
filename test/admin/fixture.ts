// A shard as the tools see it: a store in memory, sitters that answer what a test says, a terminal that is written down.

import { realCrypto } from "../../src/world/real/crypto.ts";
import { runAdmin } from "../../src/admin/program.ts";
import { runStat } from "../../src/admin/stat.ts";
import type { AdminContext, PeerBackups } from "../../src/admin/context.ts";
import type { SnapshotEntry } from "../../src/backup/wire.ts";
import { ManateeError } from "../../src/base/errors.ts";
import { type Lsn, parseLsn } from "../../src/base/lsn.ts";
import { encodeAnnouncement } from "../../src/cluster/announcement.ts";
import { decodeState } from "../../src/cluster/codec.ts";
import type { Announcement } from "../../src/cluster/observation.ts";
import type { PeerAddress, ShardState } from "../../src/cluster/state.ts";
import { memoryStore, type MemoryStore } from "../../src/coordination/memory/driver.ts";
import type { Session } from "../../src/coordination/port.ts";
import type { Clone, Clones } from "../../src/postgres/clones.ts";
import type { Snapshot } from "../../src/storage/port.ts";
import type { RestoreEnd, Restores, RestoreTarget } from "../../src/postgres/restore.ts";
import type { ForkContent, Forks, KeptFork } from "../../src/postgres/forks.ts";
import { type Known, known, type LocalFacts } from "../../src/postgres/rebuild-plan.ts";
import { shardStore } from "../../src/shard/shard-store.ts";
import type { JournalEntry, PeerReport } from "../../src/status/report.ts";
import type { Log, World } from "../../src/world/port.ts";
import { realClock, realRandom, realTimers } from "../../src/world/real/clock.ts";
import { standbyAnnouncement } from "../support/shard-state.ts";

export const SHARD_PATH = "/manatee/1";
/** 2026-03-01T12:00:00.000Z */
export const NOW = Date.UTC(2026, 2, 1, 12);
export const SYSTEM = "7512345678901234567";

const quiet: Log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

/** Peers a, b, c, d: zoneIds that differ in their first eight characters. */
export function peer(name: string): PeerAddress & { readonly incarnation: string } {
  const at = name.charCodeAt(0) - 96;
  const ip = `10.0.0.${at}`;
  return {
    id: `${ip}:5432:12345`,
    zoneId: `${name.repeat(8)}-0000-4000-8000-00000000000${at}`,
    ip,
    pgUrl: `tcp://postgres@${ip}:5432/postgres`,
    backupUrl: `http://${ip}:12345`,
    incarnation: `inc-${name}`,
  };
}

/** A document as a sitter writes it. */
export function document(change: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    generation: 3,
    primary: peer("a"),
    sync: peer("b"),
    async: [peer("c")],
    deposed: [],
    initWal: "0/174C4C8",
    initTimeline: 2,
    provisional: false,
    timeline: 2,
    highestTimeline: 2,
    systemIdentifier: SYSTEM,
    rule: "A1",
    reason: "cccccccc joined",
    written: { by: "10.0.0.1:5432:12345", version: 1 },
    requires: ["incarnations"],
    ...change,
  };
}

export function state(change: Readonly<Record<string, unknown>> = {}): ShardState {
  const decoded = decodeState(JSON.stringify(document(change)));
  if (decoded.kind !== "state") throw new Error(decoded.message);
  return decoded.state;
}

export function row(
  downstream: string,
  change: Readonly<Record<string, string | null>> = {},
): Record<string, string | null> {
  return {
    pid: "4711",
    usename: "manatee_replication",
    application_name: peer(downstream).pgUrl,
    client_addr: peer(downstream).ip,
    state: "streaming",
    sent_location: "0/79E8E0A0",
    write_location: "0/79E8E0A0",
    flush_location: "0/79E8E0A0",
    replay_location: "0/79E8DCA0",
    sync_priority: "1",
    sync_state: "async",
    ...change,
  };
}

/** Of that time, as a backup server tells it. */
export function snapshot(
  wallMs: number,
  properties: Readonly<Record<string, string>> = {},
  change: Partial<SnapshotEntry> = {},
): SnapshotEntry {
  return {
    name: String(wallMs),
    guid: `guid-${wallMs}`,
    createdWallMs: wallMs,
    properties: {
      "manatee:timeline": "2",
      "manatee:lsn": "0/79E8E0A0",
      "manatee:system": SYSTEM,
      "manatee:why": "periodic",
      ...properties,
    },
    holds: [],
    ownBytes: 1_500_000,
    referencedBytes: 3_221_225_472,
    ...change,
  };
}

type ReportChange = Partial<Omit<PeerReport, "postgres" | "decision" | "store">> & {
  readonly postgres?: Partial<PeerReport["postgres"]>;
  readonly decision?: Partial<PeerReport["decision"]>;
  readonly store?: Partial<PeerReport["store"]>;
};

/** A sitter's report, of a peer that is well. */
export function report(name: string, role: PeerReport["role"], change: ReportChange = {}): PeerReport {
  const address = peer(name);
  const primary = role === "primary";
  return {
    id: address.id,
    run: `run-${name}`,
    zoneId: address.zoneId,
    shard: "1",
    pgUrl: address.pgUrl,
    incarnation: address.incarnation,
    systemIdentifier: SYSTEM,
    generation: 3,
    version: 1,
    role,
    silent: [],
    ...change,
    decision: {
      rule: "A1",
      because: "the chain is complete",
      waitingOn: null,
      operator: null,
      forMs: 1000,
      ...change.decision,
    },
    store: { connected: true, sinceMs: 1000, evaluationOnly: false, openToAll: false, ...change.store },
    postgres: {
      healthy: true,
      error: null,
      lastCheck: "2026-03-01T12:00:00.000Z",
      version: "15.6",
      state: primary ? "primary" : "standby",
      job: null,
      gate: primary ? "open" : "closed",
      syncNames: primary ? [peer("b").pgUrl] : ["manatee-nobody"],
      lineage: "1@0/174C4C8,2",
      timeline: 2,
      walEnd: "0/79E8E0A0",
      replayed: primary ? null : "0/79E8E0A0",
      lagSeconds: primary ? null : 0,
      receiver: primary ? null : "streaming",
      clientSessions: 0,
      replication: [],
      forksKept: 0,
      waitingCommits: null,
      cancelledWaits: 0,
      inDoubt: null,
      warnings: [],
      ...change.postgres,
    },
  };
}

/** The reports of a shard that is well: a → b → c. */
export function wellReports(): Record<string, PeerReport> {
  return {
    a: report("a", "primary", { postgres: { replication: [row("b", { sync_state: "sync" })] } }),
    b: report("b", "sync", { postgres: { replication: [row("c")] } }),
    c: report("c", "async"),
  };
}

export interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

export class ShardFixture {
  /** By the clock of the store's machines; undefined: this one's. */
  storeWallMs: number | undefined;
  readonly store: MemoryStore = memoryStore({
    clock: { now: () => realClock.now(), wall: () => this.storeWallMs ?? realClock.wall() },
    timers: realTimers,
    random: realRandom,
    log: quiet,
  });
  /** By a peer's letter; without one its sitter is silent. */
  readonly reports: Record<string, PeerReport>;
  /** What the sitters' journals hold, by peer. */
  readonly journals: Record<string, JournalEntry[]> = {};
  /** Of every peer's storage. */
  freePercent = 50;
  /** By peer; one that is not there has no backup server. */
  readonly snapshots: Record<string, SnapshotEntry[]> = {};
  /** By a peer's letter. */
  readonly ports: Record<string, "open" | "refused" | "silent"> = {};
  readonly files = new Map<string, string>();
  wallMs = NOW;
  answers: string[] = [];
  interactive = false;
  /** Which outputs are terminals that show colours. */
  colours = { colour: false, noteColour: false };
  env: Record<string, string> = { ZK_IPS: "10.0.0.9", SHARD: "1" };
  /** Called before each question to a sitter: a test lets the shard go on here. */
  onAsk: (() => Promise<void> | void) | undefined;
  /** Called before each answer of the operator's. */
  onQuestion: (() => Promise<void> | void) | undefined;
  /** Called before each write of the tool's to the document: somebody else may be faster. */
  onWrite: (() => Promise<void>) | undefined;
  readonly questions: string[] = [];
  readonly #sessions: Session[] = [];

  constructor(reports: Record<string, PeerReport> = wellReports()) {
    this.reports = reports;
  }

  /** Writes these versions of the document, one after the other, and lets these peers be present. */
  async prepare(
    documents: readonly (Record<string, unknown> | string)[] = [document()],
    present: readonly string[] = ["a", "b", "c"],
  ): Promise<this> {
    const session = this.session("sitters");
    const shard = shardStore({ session, path: SHARD_PATH, clock: realClock, log: quiet });
    await connected(session);
    await shard.prepare();
    for (const [at, each] of documents.entries()) await this.put(each, at === 0 ? undefined : at);
    for (const name of present) await this.announce(name);
    return this;
  }

  async announce(name: string, change: Partial<Announcement> = {}): Promise<void> {
    const { incarnation } = peer(name);
    const announcement = standbyAnnouncement({ incarnation, systemIdentifier: SYSTEM, ...change });
    const data = encodeAnnouncement(peer(name), announcement);
    await this.#write([
      {
        kind: "create",
        path: `${SHARD_PATH}/election/${peer(name).id}-`,
        data: bytes(data),
        ephemeral: true,
        sequential: true,
      },
    ]);
  }

  /** As a sitter writes: on that version, with its history entry. */
  async put(json: Record<string, unknown> | string, version: number | undefined): Promise<void> {
    const text = typeof json === "string" ? json : JSON.stringify(json);
    const generation = typeof json === "string" ? 0 : Number(json["generation"]);
    const data = bytes(text);
    await this.#write([
      ...(version === undefined ? [{ kind: "create" as const, path: `${SHARD_PATH}/state`, data }] : []),
      { kind: "set", path: `${SHARD_PATH}/state`, data, version: version ?? 0 },
      { kind: "create", path: `${SHARD_PATH}/history/${generation}-`, data, sequential: true },
    ]);
  }

  /** Nodes without children, in that order. */
  async remove(...paths: readonly string[]): Promise<void> {
    await this.#write(paths.map((path) => ({ kind: "delete", path })));
  }

  readonly #backupsOf = (peer: PeerAddress) => {
    const found = this.snapshots[letterOf(peer.ip)];
    if (found) return found;
    throw new ManateeError({
      code: "BACKUP_UNREACHABLE",
      message: `the backup server at ${peer.ip}:12345 does not answer`,
      remedy: "retry",
      hint: "See whether it runs.",
    });
  };

  /** What this host's peer keeps; a test puts some in. */
  readonly kept: KeptFork[] = [];
  readonly contents: Record<string, ForkContent> = {};
  readonly forks: Forks = {
    list: () => Promise.resolve([...this.kept]),
    content: (name) => Promise.resolve(this.contents[name] as ForkContent),
    drop: (name) => {
      for (const [at, fork] of [...this.kept.entries()].reverse()) if (fork.name === name) this.kept.splice(at, 1);
      return Promise.resolve();
    },
  };

  /** What this host shows to who asks what a rebuild would do. */
  local: LocalFacts = {
    dataDir: "/data",
    forksDir: "/data.forks",
    mark: known(undefined),
    dataBytes: known(2_000_000_000),
    wal: known({ names: new Set<string>(), segmentBytes: 16_777_216n }),
    hasRewind: known(true),
    room: known({ freeBytes: 50_000_000_000, keptFreeBytes: 1_000_000_000 }),
    storage: undefined,
    lastCopies: {},
  };
  sourceBytes: Known<number> = known(3_000_000_000);
  /** Of this host's peer. */
  clonesKept: Clone[] = [];
  readonly clonePlace: { snapshots: Snapshot[]; shared: boolean; freePercent: number } = {
    snapshots: [],
    shared: true,
    freePercent: 50,
  };
  readonly clones: Clones = {
    place: () => Promise.resolve(this.clonePlace),
    list: () => Promise.resolve(this.clonesKept),
    choosePort: (wanted) => Promise.resolve(wanted ?? 15432),
    make: ({ snapshot: { name: from, createdWallMs }, port, ttlMs, onStep }) => {
      onStep("recovers");
      const made: Clone = {
        name: String(port),
        port,
        dataset: `tank/pg-clone-${port}`,
        snapshot: from,
        takenWallMs: createdWallMs,
        madeWallMs: NOW,
        untilWallMs: NOW + ttlMs,
        state: "running",
        socketDir: `/tank/pg-clone-${port}/.clone`,
      };
      this.clonesKept.push(made);
      return Promise.resolve(made);
    },
    drop: (name) => Promise.resolve(void (this.clonesKept = this.clonesKept.filter((one) => one.name !== name))),
  };

  /** What was done to this host's peer, and what it shows. */
  readonly restored: { snapshot: string; incarnation: string }[] = [];
  sitterHolds = false;
  /** Called when its data was put back. */
  onPutBack: (() => Promise<void> | void) | undefined;
  readonly tried: (RestoreTarget | undefined)[] = [];
  restoreEnd: RestoreEnd = {
    timeline: 2,
    lsn: parseLsn("0/3000060") as Lsn,
    systemIdentifier: SYSTEM,
    lastCommitWallMs: NOW - 3_600_000,
  };
  readonly restores: Restores = {
    place: () => Promise.resolve({ ...this.clonePlace, forks: this.kept.map(({ name }) => name) }),
    try: ({ to, onStep }) => {
      this.tried.push(to);
      onStep("recovers");
      return Promise.resolve(this.restoreEnd);
    },
    hold: async () => {
      if (this.sitterHolds)
        throw new ManateeError({
          code: "SITTER_ALREADY_RUNNING",
          message: "a sitter holds it",
          remedy: "operator",
          hint: "Stop it.",
        });
      this.sitterHolds = true;
      return { release: () => void (this.sitterHolds = false) };
    },
    putBack: async ({ snapshot: { name }, incarnation }) => {
      if (!this.sitterHolds) throw new Error("the sitter may start");
      this.restored.push({ snapshot: name, incarnation });
      await this.onPutBack?.();
      return { kept: "tank/pg-fork-inc-c" };
    },
  };

  /** As the peers' backup servers would answer. */
  readonly backups: PeerBackups = {
    list: async (peer) => ({
      dataset: "tank/pg",
      format: "zfs",
      incremental: true,
      resume: false,
      atomic: true,
      space: { usedBytes: 100 - this.freePercent, freeBytes: this.freePercent },
      snapshots: [...this.#backupsOf(peer)],
      queue: { length: 0, max: 10, sending: 0, sendingMax: 2 },
      transfers: [],
    }),
    takeNow: async (peer) => {
      const taken = snapshot(NOW, { "manatee:why": "on demand" });
      this.#backupsOf(peer).push(taken);
      return taken;
    },
  };

  async #write(operations: Parameters<Session["write"]>[0]): Promise<void> {
    const session = this.session("sitters");
    const outcome = await session.write(operations);
    if (outcome.kind !== "yes") throw new Error(`the fixture's write: ${JSON.stringify(outcome)}`);
  }

  session(client: string): Session {
    const [first] = this.#sessions;
    if (first !== undefined) return first;
    const session = this.store.as(client).open({ sessionTimeoutMs: 60_000 });
    this.#sessions.push(session);
    return session;
  }

  /** The document as it stands, and its version. */
  current(): { readonly json: Record<string, unknown>; readonly version: number } {
    const node = this.store.peek(`${SHARD_PATH}/state`);
    if (node === undefined) throw new Error("no state");
    return { json: JSON.parse(new TextDecoder().decode(node.data)) as Record<string, unknown>, version: node.version };
  }

  adm(...args: readonly string[]): Promise<Outcome> {
    return this.#run((context) => runAdmin(args, context));
  }

  stat(...args: readonly string[]): Promise<Outcome> {
    return this.#run((context) => runStat(args, context));
  }

  async #run(tool: (context: AdminContext) => Promise<number>): Promise<Outcome> {
    const out: string[] = [];
    const err: string[] = [];
    const status = await tool(this.#context(out, err));
    return { status, out: out.join("\n"), err: err.join("\n") };
  }

  #context(out: string[], err: string[]): AdminContext {
    const world: World = {
      clock: { now: () => realClock.now(), wall: () => this.wallMs },
      timers: realTimers,
      random: realRandom,
      log: quiet,
      crypto: realCrypto,
      network: {
        openStream: async () => "declined",
        probePostgres: ({ host }) => Promise.resolve(this.ports[letterOf(host)] ?? "silent"),
        httpGet: async ({ host, port, path }) => {
          await this.onAsk?.();
          const journal = path.startsWith("/journal?") ? this.journals[letterOf(host)] : undefined;
          if (journal) return { status: 200, body: JSON.stringify({ entries: journal }) };
          const found = port === 5433 && path === "/state" ? this.reports[letterOf(host)] : undefined;
          return found === undefined
            ? this.ports[letterOf(host)] === "refused"
              ? "refused"
              : "silent"
            : { status: 200, body: JSON.stringify(found) };
        },
      },
      files: {
        read: (path) => Promise.resolve(this.files.get(path)),
        write: (path, content) => Promise.resolve(void this.files.set(path, content)),
        remove: (path) => Promise.resolve(void this.files.delete(path)),
      },
    };
    return {
      world,
      terminal: {
        print: (line) => void out.push(line),
        note: (line) => void err.push(line),
        interactive: this.interactive,
        ...this.colours,
        ask: async (question) => {
          this.questions.push(question);
          await this.onQuestion?.();
          return this.answers.shift();
        },
      },
      env: this.env,
      version: "1.2.3",
      author: "manatee-adm of root on host1",
      coordination: () => Promise.resolve(this.store.as("adm")),
      forks: () => Promise.resolve(this.forks),
      rebuildLook: () =>
        Promise.resolve({
          local: () => Promise.resolve(this.local),
          sourceBytes: () => Promise.resolve(this.sourceBytes),
        }),
      clones: () => Promise.resolve(this.clones),
      restores: () => Promise.resolve(this.restores),
      backups: () => Promise.resolve(this.backups),
      shardStore: (session, path) => {
        const shard = shardStore({ session, path, clock: realClock, log: quiet });
        const writeState = shard.writeState.bind(shard);
        return Object.assign(shard, {
          writeState: async (change: Parameters<typeof writeState>[0]) => {
            await this.onWrite?.();
            return writeState(change);
          },
        });
      },
    };
  }
}

function letterOf(host: string): string {
  return String.fromCharCode(96 + Number(host.split(".").at(-1)));
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function connected(session: Session): Promise<void> {
  return new Promise((resolve) => {
    if (session.status.kind === "connected") return resolve();
    const stop = session.onStatus((status) => {
      if (status.kind !== "connected") return;
      stop();
      resolve();
    });
  });
}
