// The shard's place in the store, on the coordination port: state and history as one transaction, and one election node a session.

import { ManateeError } from "../base/errors.ts";
import {
  decodeAnnouncement,
  decodeElectionEntry,
  encodeAnnouncement,
  parseElectionName,
} from "../cluster/announcement.ts";
import { decodeState, encodeState, isOriginals } from "../cluster/codec.ts";
import type { Announcement, ElectionEntry } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { NodePath, NodeValue, Session, StoreOperation, WriteOutcome } from "../coordination/port.ts";
import type { Clock, Log } from "../world/port.ts";
import type { HistoryEntry, ShardStore } from "./port.ts";
import { watchShard } from "./watch-shard.ts";

export interface ShardStoreOptions {
  /** Not owned: whoever opened it ends it. */
  readonly session: Session;
  /** `/manatee/NAME` */
  readonly path: NodePath;
  readonly clock: Clock;
  readonly log: Log;
}

/** Of looking again after a refused or unanswered change of the election: others announce at the same time, a handful at most. */
const ATTEMPTS_MAX = 16;
/** One request of a store holds about a megabyte, and each skipped version takes some 60 bytes of it. */
const VERSIONS_SKIPPED_MAX = 10_000;
/** History entries read at a time. */
const READS_AT_ONCE = 32;
/** History entries deleted in one write: well below the store's limit of a request. */
const TRIMMED_AT_ONCE = 100;

export function shardStore(options: ShardStoreOptions): ShardStore {
  return new Store(options);
}

interface ElectionNode {
  readonly path: NodePath;
  readonly name: string;
  readonly node: NodeValue;
}

class Store implements ShardStore {
  readonly session: Session;
  readonly path: NodePath;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #statePath: NodePath;
  readonly #electionPath: NodePath;
  readonly #historyPath: NodePath;
  /** A create of an election node was sent, and may still land. */
  #createUnsettled = false;

  constructor({ session, path, clock, log }: ShardStoreOptions) {
    this.session = session;
    this.path = path;
    this.#clock = clock;
    this.#log = log;
    this.#statePath = `${path}/state`;
    this.#electionPath = `${path}/election`;
    this.#historyPath = `${path}/history`;
  }

  async prepare(): Promise<void> {
    const parts = this.path.split("/").slice(1);
    const folders = parts.map((_, index) => `/${parts.slice(0, index + 1).join("/")}`);
    for (const path of [...folders, this.#electionPath, this.#historyPath]) {
      if (await this.session.read(path)) continue;
      const outcome = await this.session.write([{ kind: "create", path, data: new Uint8Array() }]);
      if (outcome.kind === "no" && outcome.refusal === "node-exists") continue;
      if (outcome.kind !== "yes") throw errorOf(outcome, `make ${path}`);
    }
  }

  async readState(options?: { confirmed?: boolean; signal?: AbortSignal }): ReturnType<ShardStore["readState"]> {
    // The call's moment, not the answer's: what is read is at least as new as that, if confirmed.
    const readAt = this.#clock.now();
    const node = await this.session.read(this.#statePath, options);
    if (!node) return { kind: "absent" };
    const decoded = decodeState(textOf(node.data));
    if (decoded.kind === "unreadable") return decoded;
    return { kind: "document", state: decoded.state, version: node.version, readAt };
  }

  async readElection(options?: { signal?: AbortSignal }): Promise<readonly ElectionEntry[]> {
    const highest = new Map<string, ElectionEntry>();
    for (const { name, node } of await this.#electionNodes(options)) {
      const entry = decodeElectionEntry({ name, text: textOf(node.data) });
      if (!entry) continue;
      const other = highest.get(entry.peer.id);
      if (!other || other.sequence < entry.sequence) highest.set(entry.peer.id, entry);
    }
    return [...highest.values()].sort((a, b) => a.sequence - b.sequence);
  }

  /**
   * Each create also sets the election folder, on the version it was seen at. So of a create whose answer was lost and the one
   * sent in its place only one can ever happen, however late the first one lands, and by whichever session of this peer.
   */
  async announce(peer: PeerAddress, announcement: Announcement): Promise<Announcement> {
    const data = bytesOf(encodeAnnouncement(peer, announcement));
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const folder = await this.#electionFolder();
      const named = (await this.#electionNodes()).filter(({ name }) => parseElectionName(name)?.id === peer.id);
      const own = named.filter(({ node }) => node.ephemeralOwner === this.session.id);
      const kept = own.at(-1);
      const leftovers = named.filter((each) => each !== kept);
      if (kept && leftovers.length === 0 && isEqual(kept.node.data, data)) {
        this.#createUnsettled = false;
        return storedAnnouncement(kept.node.data, announcement);
      }
      const operations: StoreOperation[] = kept
        ? [{ kind: "set", path: kept.path, data, version: kept.node.version }]
        : [
            { kind: "set", path: this.#electionPath, data: folder.data, version: folder.version },
            { kind: "create", path: `${this.#electionPath}/${peer.id}-`, data, ephemeral: true, sequential: true },
          ];
      if (leftovers.length > 0)
        this.#log.info("election nodes of a former session removed", { names: leftovers.map(({ name }) => name) });
      const outcome = await this.session.write([
        ...operations,
        ...leftovers.map(({ path }) => ({ kind: "delete" as const, path })),
      ]);
      if (outcome.kind === "unsent") throw outcome.error;
      if (outcome.kind === "unknown" && !kept) this.#createUnsettled = true;
      // The store's answer, not our wish, is what is reported: the next turn of the loop reads it.
      if (outcome.kind === "no" && outcome.refusal === "not-permitted") throw errorOf(outcome, "announce this peer");
    }
    throw contended("announce this peer");
  }

  async leave(): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const folder = await this.#electionFolder();
      const own = (await this.#electionNodes()).filter(({ node }) => node.ephemeralOwner === this.session.id);
      if (own.length === 0 && !this.#createUnsettled) return;
      // The folder's new version keeps out a create of ours that has not landed yet.
      const outcome = await this.session.write([
        { kind: "set", path: this.#electionPath, data: folder.data, version: folder.version },
        ...own.map(({ path }) => ({ kind: "delete" as const, path })),
      ]);
      if (outcome.kind === "yes") this.#createUnsettled = false;
      if (outcome.kind === "unsent") throw outcome.error;
      if (outcome.kind === "no" && outcome.refusal === "not-permitted") throw errorOf(outcome, "leave the election");
    }
    throw contended("leave the election");
  }

  async writeState({
    state,
    version,
    versionAbove = 0,
    by,
    signal,
  }: Parameters<ShardStore["writeState"]>[0]): Promise<WriteOutcome> {
    const path = this.#statePath;
    const present = version ?? 0;
    const before = Math.max(present, Math.min(versionAbove, present + VERSIONS_SKIPPED_MAX));
    const written = { by, version: before + 1 };
    // A document of the original stays one: `written` alone would make it one of ours that lost all the rest.
    const data = bytesOf(encodeState(isOriginals(state) ? state : { ...state, written }));
    const nothing = new Uint8Array();
    const skipped: StoreOperation[] = Array.from({ length: before - present }, (_, at) => ({
      kind: "set",
      path,
      data: nothing,
      version: present + at,
    }));
    const first: StoreOperation[] = version === undefined ? [{ kind: "create", path, data: nothing }] : [];
    return await this.session.write(
      [
        ...first,
        ...skipped,
        { kind: "set", path, data, version: before },
        { kind: "create", path: `${this.#historyPath}/${state.generation}-`, data, sequential: true },
      ],
      signal && { signal },
    );
  }

  async readHistory(options?: {
    limit?: number;
    above?: number;
    signal?: AbortSignal;
  }): Promise<readonly HistoryEntry[]> {
    const { limit, above = -1, signal } = options ?? {};
    const all = (await this.#historyNames(signal)).filter(({ sequence }) => sequence > above);
    const wanted = limit === undefined ? all : all.slice(Math.max(0, all.length - limit));
    const entries: HistoryEntry[] = [];
    for (let at = 0; at < wanted.length; at += READS_AT_ONCE) {
      const batch = wanted.slice(at, at + READS_AT_ONCE);
      const nodes = await Promise.all(
        batch.map(({ name }) => this.session.read(`${this.#historyPath}/${name}`, signal && { signal })),
      );
      for (const [index, { name, sequence }] of batch.entries()) {
        const node = nodes[index];
        // Trimmed since the list was read.
        if (!node) continue;
        const raw = textOf(node.data);
        const decoded = decodeState(raw);
        const state = decoded.kind === "state" ? decoded.state : undefined;
        entries.push({ sequence, name, writtenWallMs: node.changedWallMs, state, raw });
      }
    }
    return entries;
  }

  async trimHistory({ keep }: { keep: number }): Promise<number> {
    const names = await this.#historyNames();
    const oldest = names.slice(0, Math.max(0, names.length - keep)).slice(0, TRIMMED_AT_ONCE);
    if (oldest.length === 0) return 0;
    const outcome = await this.session.write(
      oldest.map(({ name }) => ({ kind: "delete", path: `${this.#historyPath}/${name}` })),
    );
    // Refused where another peer trims as well; unknown or unsent where the store is away: the next time will do.
    return outcome.kind === "yes" ? oldest.length : 0;
  }

  watch(listener: () => void): () => void {
    return watchShard({
      session: this.session,
      statePath: this.#statePath,
      electionPath: this.#electionPath,
      listener,
    });
  }

  async #electionFolder(): Promise<NodeValue> {
    const folder = await this.session.read(this.#electionPath, { confirmed: true });
    if (folder) return folder;
    throw new ManateeError({
      code: "SHARD_NOT_PREPARED",
      message: `there is no ${this.#electionPath} in the store`,
      remedy: "retry",
      hint: "Find out who deleted it; a sitter makes it anew when it starts.",
    });
  }

  /** Sorted by sequence. */
  async #electionNodes(options?: { signal?: AbortSignal }): Promise<readonly ElectionNode[]> {
    const names = (await this.session.list(this.#electionPath, options)) ?? [];
    const nodes = await Promise.all(
      names.map(async (name) => {
        const path = `${this.#electionPath}/${name}`;
        return { path, name, node: await this.session.read(path, options) };
      }),
    );
    const there = nodes.flatMap(({ path, name, node }) => (node ? [{ path, name, node }] : []));
    return there.sort((a, b) => sequenceOf(a.name) - sequenceOf(b.name));
  }

  /** Sorted by sequence. */
  async #historyNames(signal?: AbortSignal): Promise<readonly { name: string; sequence: number }[]> {
    const names = (await this.session.list(this.#historyPath, signal && { signal })) ?? [];
    const entries = names.filter((name) => /^\d+-\d{10}$/.test(name));
    return entries.map((name) => ({ name, sequence: sequenceOf(name) })).sort((a, b) => a.sequence - b.sequence);
  }
}

function sequenceOf(name: string): number {
  return Number(/-(\d{10})$/.exec(name)?.[1] ?? -1);
}

function storedAnnouncement(data: Uint8Array, otherwise: Announcement): Announcement {
  return decodeAnnouncement(JSON.parse(textOf(data))) ?? otherwise;
}

function textOf(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function errorOf(outcome: Exclude<WriteOutcome, { kind: "yes" }>, what: string): ManateeError {
  if (outcome.kind !== "no") return outcome.error;
  const operator = outcome.refusal === "not-permitted";
  return new ManateeError({
    code: operator ? "STORE_NOT_PERMITTED" : "STORE_REFUSED",
    message: `the store refused to ${what}: ${outcome.refusal}`,
    remedy: operator ? "operator" : "reobserve",
    hint: operator
      ? "Compare the configured user and password with the access control list of the shard's nodes."
      : "Look at the shard's nodes in the store: another program may be changing them.",
  });
}

function contended(what: string): ManateeError {
  return new ManateeError({
    code: "STORE_CONTENDED",
    message: `could not ${what}: refused or unanswered ${ATTEMPTS_MAX} times in a row`,
    remedy: "retry",
    hint: "Look for a second sitter with the same address, or for a program that writes below election/.",
  });
}
