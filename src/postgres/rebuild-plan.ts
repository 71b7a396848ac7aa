// What a rebuild would do, foretold from what can be known before it: by which way, from where, how much, how long, and what becomes of what is here. Pure. The ways
// and their order are those of the rules (cluster/rejoin-way.ts) and of the driver (copy-way.ts); nothing is guessed: what can't be known says why.

import type { Lineage } from "../base/lineage.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Bytes, Ms } from "../base/units.ts";
import type { DataMark } from "../cluster/observation.ts";
import { leavesRoomForLess, nextWay, type RebuildWish, type RejoinWay } from "../cluster/rejoin-way.ts";
import { newestBeforeFork } from "../snapshots/choice.ts";
import { decodeFacts } from "../snapshots/facts.ts";
import { chooseRollBack, obstacleToSeed, type RollBackChoice } from "./copy-way.ts";
import { walWanted } from "./wal-segments.ts";

export type Known<T> = { readonly kind: "known"; readonly value: T } | Unknown;
export interface Unknown {
  readonly kind: "unknown";
  readonly because: string;
}

export function known<T>(value: T): Known<T> {
  return { kind: "known", value };
}

export function unknown(because: string): Unknown {
  return { kind: "unknown", because };
}

/** `seed`: a snapshot of the source's, from its backup server. */
export type CopyWay = "roll-back" | "rewind" | "seed" | "base-backup";

export interface LastCopy {
  /** null: it tells no amount. */
  readonly bytes: Bytes | null;
  readonly tookMs: Ms;
  readonly endedWallMs: number;
}
export type LastCopies = Readonly<Partial<Record<CopyWay, LastCopy>>>;

export interface KeptSnapshot {
  readonly name: string;
  readonly properties: Readonly<Record<string, string>>;
}

/** Of the dataset under the data directory. */
export interface StoredFacts {
  readonly dataset: string;
  /** undefined: it is not mounted. */
  readonly mountedAt: string | undefined;
  readonly format: string;
  /** What of the data lies elsewhere, and shows in no snapshot; undefined: nothing. */
  readonly outside: string | undefined;
  /** Oldest first. */
  readonly snapshots: readonly KeptSnapshot[];
}

/** Of this host. */
export interface LocalFacts {
  readonly dataDir: string;
  readonly mark: Known<DataMark | undefined>;
  readonly dataBytes: Known<Bytes>;
  readonly wal: Known<{ readonly names: ReadonlySet<string>; readonly segmentBytes: bigint }>;
  readonly hasRewind: Known<boolean>;
  /** Where forks are kept as copies. */
  readonly forksDir: string;
  readonly room: Known<{ readonly freeBytes: Bytes; readonly keptFreeBytes: Bytes }>;
  /** undefined: no storage that takes snapshots is configured. */
  readonly storage: Known<StoredFacts> | undefined;
  readonly lastCopies: LastCopies;
}

export interface RebuildFacts {
  readonly wish: RebuildWish;
  readonly primary: PeerId;
  /** Whom it comes from. */
  readonly from: PeerId;
  /** Whether this peer's WAL has left the primary's, as the rules would see it. */
  readonly forked: Known<boolean>;
  /** Of this peer's WAL, and the primary's. */
  readonly lineages: Known<{ readonly own: Lineage; readonly primary: Lineage }>;
  /** false: there is none, or only what a copy left. */
  readonly hasData: boolean;
  /** As which fork the content is kept. */
  readonly fork: Known<string>;
  readonly forksKept: Known<readonly string[]>;
  readonly forksKeptMax: number;
  readonly local: LocalFacts;
  /** Of the source's databases. */
  readonly sourceBytes: Known<Bytes>;
  /** What the source's backup server says; not asked where there is no storage here. */
  readonly sent: Known<{ readonly format: string; readonly newestBytes: Bytes | undefined }>;
}

export interface RebuildPlan {
  readonly way: CopyWay;
  readonly from: PeerId;
  /** Of a roll-back. */
  readonly snapshot: string | undefined;
  readonly bytes: Known<Bytes>;
  readonly durationMs: Known<Ms>;
  /** Ways that are cheaper, and why they are not taken; in the order in which they would be tried. */
  readonly passedOver: readonly { readonly way: CopyWay; readonly because: string }[];
  /** undefined: there is nothing here to keep. */
  readonly fork: ForkPlan | undefined;
  /** What the plan stands on without being known. */
  readonly assumed: readonly string[];
}

export interface ForkPlan {
  readonly name: Known<string>;
  readonly kind: "snapshot" | "copy";
  /** That it takes at first. */
  readonly bytes: Known<Bytes>;
  readonly kept: Known<number>;
  readonly keptMax: number;
  /** Why the rebuild would wait, before it touches anything; undefined: it would not, as far as is known. */
  readonly waits: string | undefined;
}

export function planRebuild(facts: RebuildFacts): RebuildPlan {
  const { wish, primary, forked, from } = facts;
  const fork = planFork(facts);
  const assumed = assumptions(facts);
  const passedOver: { way: CopyWay; because: string }[] = [];
  const rollBack = chooseSnapshot(facts);
  const less = leavesRoomForLess(wish, { primary, forked: forked.kind === "known" && forked.value });
  if (!less && !wish.full) {
    const because = whyNoLess(facts);
    passedOver.push({ way: "roll-back", because }, { way: "rewind", because });
  }
  let way: RejoinWay | undefined = less ? undefined : "copy";
  while (way !== "copy") {
    way = nextWay(way, { canRollBack: facts.local.storage !== undefined, incomplete: false });
    if (way === "copy") break;
    const because = way === "roll-back" ? rollBack.because : obstacleToRewind(facts);
    if (because === undefined) {
      const snapshot = way === "roll-back" ? rollBack.snapshot : undefined;
      const bytes = way === "roll-back" ? rollBack.bytes : unknown("pg_rewind tells only when it has compared both");
      return { way, from, snapshot, bytes, durationMs: durationOf(way, bytes, facts), passedOver, fork, assumed };
    }
    passedOver.push({ way, because });
  }
  const because = obstacleToCopyBySnapshot(facts);
  if (because !== undefined) passedOver.push({ way: "seed", because });
  const by = because === undefined ? "seed" : "base-backup";
  const bytes = by === "seed" ? bytesOfSnapshot(facts) : facts.sourceBytes;
  return {
    way: by,
    from,
    snapshot: undefined,
    bytes,
    durationMs: durationOf(by, bytes, facts),
    passedOver,
    fork,
    assumed,
  };
}

function whyNoLess({ wish, primary, forked, hasData }: RebuildFacts): string {
  if (!hasData) return "there is no data here";
  if (wish.from !== undefined && wish.from !== primary) return `--from names ${wish.from}, which is not the primary`;
  if (forked.kind === "unknown") return `it is not known to have forked: ${forked.because}`;
  return "its WAL has not left the primary's";
}

interface SnapshotPlan {
  /** undefined: it can be rolled back to that snapshot. */
  readonly because: string | undefined;
  readonly snapshot: string | undefined;
  readonly bytes: Known<Bytes>;
}

function chooseSnapshot({ lineages, local }: RebuildFacts): SnapshotPlan {
  const none = (because: string): SnapshotPlan => ({ because, snapshot: undefined, bytes: unknown(because) });
  const { storage } = local;
  if (storage === undefined) return none("no storage that takes snapshots is configured");
  if (storage.kind === "unknown") return none(storage.because);
  if (storage.value.outside !== undefined) return none(`${storage.value.outside} lies outside of the dataset`);
  if (lineages.kind === "unknown") return none(lineages.because);
  const { own, primary: source } = lineages.value;
  const { snapshots } = storage.value;
  const choice = chooseRollBack({ own, source, snapshots, choose: newestBeforeFork });
  if (choice.kind === "none") return none(choice.because);
  const { missing, bytes } = walPutBack(local, choice);
  return missing === undefined
    ? { because: undefined, snapshot: choice.snapshot.name, bytes }
    : none(`this peer's WAL does not reach back to the snapshot ${choice.snapshot.name}: there is no ${missing}`);
}

/** From the end of the snapshot's content up to the fork; before that, the snapshot brings its own. */
function walPutBack(
  { wal }: LocalFacts,
  { snapshot, shared }: Extract<RollBackChoice<KeptSnapshot>, { kind: "from" }>,
): { readonly missing: string | undefined; readonly bytes: Known<Bytes> } {
  if (wal.kind === "unknown") return { missing: undefined, bytes: wal };
  const start = decodeFacts(snapshot.properties)?.lsn;
  if (start === undefined) return { missing: undefined, bytes: unknown("the snapshot does not say where it ends") };
  const { names: own, segmentBytes } = wal.value;
  const { wanted, missing } = walWanted({ own, present: [], start, timelines: shared, segmentBytes });
  return { missing, bytes: known(wanted.size * Number(segmentBytes)) };
}

function obstacleToRewind({ local }: RebuildFacts): string | undefined {
  const { hasRewind } = local;
  return hasRewind.kind === "known" && !hasRewind.value ? "there is no pg_rewind beside its PostgreSQL" : undefined;
}

function obstacleToCopyBySnapshot({ local, sent }: RebuildFacts): string | undefined {
  const { storage, dataDir } = local;
  if (storage === undefined) return "no storage that takes snapshots is configured";
  if (storage.kind === "unknown") return storage.because;
  if (sent.kind === "unknown") return sent.because;
  const { dataset, mountedAt, format } = storage.value;
  return obstacleToSeed({ dataset, mountedAt, dataDir, formats: { theirs: sent.value.format, ours: format } });
}

/** One is taken for the purpose; the newest that is there is about as large. */
function bytesOfSnapshot({ sent }: RebuildFacts): Known<Bytes> {
  if (sent.kind === "unknown") return sent;
  const { newestBytes } = sent.value;
  return newestBytes === undefined ? unknown("the source has no snapshot yet whose size it tells") : known(newestBytes);
}

function durationOf(way: CopyWay, bytes: Known<Bytes>, { local }: RebuildFacts): Known<Ms> {
  const last = local.lastCopies[way];
  if (last === undefined) return unknown(`no ${way} has ended on this peer yet`);
  if (way === "roll-back") return known(last.tookMs);
  if (way === "rewind") return unknown(`it depends on how much has changed; the last one took ${seconds(last.tookMs)}`);
  if (bytes.kind === "unknown") return unknown(`how much there is to copy is not known: ${bytes.because}`);
  if (!last.bytes) return unknown("the last one does not tell how much it copied");
  return known((bytes.value / last.bytes) * last.tookMs);
}

function planFork(facts: RebuildFacts): ForkPlan | undefined {
  const { hasData, fork: name, forksKept, forksKeptMax: keptMax, local } = facts;
  if (!hasData) return undefined;
  const { storage } = local;
  const isShown = storage !== undefined && (storage.kind === "unknown" || storage.value.outside === undefined);
  const kind = isShown ? "snapshot" : "copy";
  const bytes = kind === "snapshot" ? known(0) : local.dataBytes;
  const kept = forksKept.kind === "known" ? known(forksKept.value.length) : forksKept;
  const waits = waitForRoom(facts) ?? (kind === "copy" ? waitForSpace(local) : undefined);
  return { name, kind, bytes, kept, keptMax, waits };
}

/** I5. */
function waitForRoom({ fork, forksKept, forksKeptMax }: RebuildFacts): string | undefined {
  if (forksKept.kind === "unknown" || forksKept.value.length < forksKeptMax) return undefined;
  if (fork.kind === "known" && forksKept.value.includes(fork.value)) return undefined;
  return `${forksKept.value.length} forks are kept, and policy.forksKeptMax is ${forksKeptMax}`;
}

function waitForSpace({ dataBytes, room, forksDir }: LocalFacts): string | undefined {
  if (dataBytes.kind === "unknown" || room.kind === "unknown") return undefined;
  const { freeBytes, keptFreeBytes } = room.value;
  if (freeBytes - dataBytes.value >= keptFreeBytes) return undefined;
  return `${forksDir} has ${freeBytes} bytes free, ${dataBytes.value} are needed, and ${keptFreeBytes} are to stay free`;
}

function assumptions({ wish, primary, forked, hasData, forksKept, local }: RebuildFacts): readonly string[] {
  return [
    ...(hasData && forked.kind === "unknown" && leavesRoomForLess(wish, { primary, forked: true })
      ? [`whether its WAL has forked: ${forked.because}`]
      : []),
    ...(hasData && forksKept.kind === "unknown" ? [`which forks are kept: ${forksKept.because}`] : []),
    ...(local.hasRewind.kind === "unknown" ? [`whether there is a pg_rewind: ${local.hasRewind.because}`] : []),
    ...(local.storage === undefined && local.dataBytes.kind === "unknown"
      ? [`how much space the fork takes: ${local.dataBytes.because}`]
      : []),
    ...(local.storage === undefined && local.room.kind === "unknown"
      ? [`how much space there is for it: ${local.room.because}`]
      : []),
  ];
}

function seconds(ms: Ms): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
