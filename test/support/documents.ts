// The shard's documents as they lie in the store, read without the product's own codec.

export interface PeerDocument {
  readonly id: string;
  readonly zoneId: string;
  readonly ip: string;
  readonly pgUrl: string;
  readonly incarnation?: string;
}

export interface StateDocument {
  readonly generation: number;
  readonly primary: PeerDocument;
  readonly sync: PeerDocument | null;
  readonly async: readonly PeerDocument[];
  readonly deposed: readonly PeerDocument[];
  readonly initWal: string;
  readonly timeline?: number;
  readonly provisional?: boolean;
  readonly freeze?: unknown;
  readonly promote?: unknown;
  readonly oneNodeWriteMode?: boolean;
  readonly rule?: string;
  readonly reason?: string;
}

export interface HistoryDocument {
  readonly sequence: number;
  readonly writtenWallMs: number;
  readonly state: StateDocument;
}

/** The shard as the store shows it. */
export interface ShardDocuments {
  /** undefined: there is none. `version`: of the node. */
  state(): Promise<{ readonly state: StateDocument; readonly version: number } | undefined>;
  /** Ids of the peers that have an election node. */
  present(): Promise<readonly string[]>;
  /** Oldest first. */
  history(): Promise<readonly HistoryDocument[]>;
}

/** What reads nodes: a session of a store's driver does. */
export interface NodeReader {
  read(
    path: string,
  ): Promise<{ readonly data: Uint8Array; readonly version: number; readonly changedWallMs: number } | undefined>;
  list(path: string): Promise<readonly string[] | undefined>;
}

export function shardDocuments(reader: NodeReader, shardPath: string): ShardDocuments {
  return {
    async state() {
      const node = await reader.read(`${shardPath}/state`);
      return node === undefined ? undefined : { state: parse<StateDocument>(node.data), version: node.version };
    },
    async present() {
      const names = (await reader.list(`${shardPath}/election`)) ?? [];
      return [...new Set(names.map((name) => name.slice(0, name.lastIndexOf("-"))))];
    },
    async history() {
      const names = (await reader.list(`${shardPath}/history`)) ?? [];
      const sequenceOf = (name: string) => Number(name.slice(name.lastIndexOf("-") + 1));
      const entries: HistoryDocument[] = [];
      for (const name of [...names].sort((a, b) => sequenceOf(a) - sequenceOf(b))) {
        const node = await reader.read(`${shardPath}/history/${name}`);
        if (node !== undefined)
          entries.push({
            sequence: sequenceOf(name),
            writtenWallMs: node.changedWallMs,
            state: parse<StateDocument>(node.data),
          });
      }
      return entries;
    },
  };
}

function parse<T>(data: Uint8Array): T {
  return JSON.parse(Buffer.from(data).toString("utf8")) as T;
}

/** One line: `G4 (T1) primary 15000, sync 15003, async 15006, deposed -: reason`. */
export function describeState(state: StateDocument): string {
  const name = (peer: PeerDocument | null) => peer?.zoneId ?? "none";
  const names = (peers: readonly PeerDocument[]) => peers.map(name).join(", ") || "-";
  const marks = [
    state.provisional === true ? "provisional" : "",
    state.freeze ? "frozen" : "",
    state.promote ? "promote" : "",
    state.oneNodeWriteMode === true ? "one-node-write" : "",
  ]
    .filter(Boolean)
    .map((mark) => ` [${mark}]`);
  return `G${state.generation}${marks.join("")} (${state.rule ?? "?"}) primary ${name(state.primary)}, sync ${name(state.sync)}, async ${names(state.async)}, deposed ${names(state.deposed)}, timeline ${state.timeline ?? "?"}, initWal ${state.initWal}: ${state.reason ?? ""}`;
}
