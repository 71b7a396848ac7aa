// Evidence about the other peers (D2): what each one's sitter says over its stream, how long it has been silent, and, where there is doubt, whether its
// ports answer. Where no stream comes about (an older sitter, another password) its status service is asked at intervals. It only gathers; what
// evidence amounts to is decided in cluster/.

import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import { REFUSED_MS } from "../cluster/gone.ts";
import type { PeerEvidence } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { ByteStream, World } from "../world/port.ts";
import { postgresAddress } from "./address.ts";
import type { Self } from "./handshake.ts";
import { PortWatch } from "./port-watch.ts";
import type { SilenceOptions } from "./silence.ts";
import { StallDetector } from "./stall.ts";
import { StatusWatch } from "./status-watch.ts";
import { type ChannelView, PeerStreams } from "./streams.ts";
import type { Statement } from "./wire.ts";

/** Others are told for so long that the connection to a peer broke here. */
const DOUBT_TOLD_MS: Ms = 1_000;
const WATCH_MIN_MS: Ms = 5;

export interface PeerWatchOptions {
  readonly world: World;
  readonly self: Self;
  /** The shard's replication password; undefined: there is none yet. */
  readonly secret: () => Promise<string | undefined>;
  readonly silence: SilenceOptions;
  /** Of questions to the status service of a peer to which there is no stream. */
  readonly intervalMs: Ms;
  /** Of one question, and of opening a stream. */
  readonly limitMs: Ms;
  /** Something about some peer is different from before. */
  readonly onChange: () => void;
}

/** What this sitter says of itself; who is silent is added here. */
export type OwnStatement = Omit<Statement, "silent" | "doubts">;

const NOTHING_YET: OwnStatement = {
  postgresHealthy: false,
  role: undefined,
  generation: undefined,
  wal: undefined,
  abdicates: undefined,
  leaving: undefined,
};

type SitterEvidence = PeerEvidence["sitter"];

interface WatchedPeer {
  address: PeerAddress;
  readonly status: StatusWatch;
  /** What it said last over its stream. */
  said: Statement | undefined;
  /** Its stream brings words, since then; undefined: there is none, or it is quiet. */
  freshSince: Ms | undefined;
  readonly port: PortWatch;
  brokeAt: Ms | undefined;
  /** Of which `onChange` has told last. */
  told: Told;
}

interface Told {
  readonly sitter: SitterEvidence["kind"];
  readonly port: PeerEvidence["postgresPort"]["kind"];
  readonly silent: boolean;
  /** Both ports refuse, for long enough that it counts. */
  readonly refuses: boolean;
  readonly says: string | boolean | undefined;
  readonly misses: readonly PeerId[];
}

const NOTHING_TOLD: Told = {
  sitter: "unknown",
  port: "unknown",
  silent: false,
  refuses: false,
  says: undefined,
  misses: [],
};

export class PeerWatch {
  readonly #options: PeerWatchOptions;
  readonly #peers = new Map<PeerId, WatchedPeer>();
  readonly #stall: StallDetector;
  readonly #streams: PeerStreams;
  #own = NOTHING_YET;
  #cancelWatch: () => void = () => {};

  constructor(options: PeerWatchOptions) {
    this.#options = options;
    const { world, self, secret, silence, limitMs } = options;
    this.#stall = new StallDetector({
      clock: world.clock,
      timers: world.timers,
      onStall: (stalledMs) => this.#startOver(stalledMs),
    });
    this.#streams = new PeerStreams({
      world,
      self,
      secret,
      silence,
      connectLimitMs: limitMs,
      says: () => this.#statement(),
      onStatement: (id, statement) => this.#withPeer(id, (peer) => this.#hear(peer, statement)),
      onUp: (id) => this.#withPeer(id, (peer) => this.#refresh(peer)),
      onBroken: (id) => this.#withPeer(id, (peer) => this.#doubt(peer)),
    });
    this.#stall.start();
    this.#watch();
  }

  /** Watches these and no others. */
  follow(addresses: readonly PeerAddress[]): void {
    const wanted = new Map(addresses.map((address) => [address.id, address]));
    for (const [id, peer] of this.#peers) {
      if (wanted.has(id)) continue;
      peer.status.stop();
      peer.port.end();
      this.#peers.delete(id);
    }
    for (const [id, address] of wanted) {
      const known = this.#peers.get(id);
      if (known) known.address = address;
      else this.#begin(address);
    }
    this.#streams.follow(addresses);
  }

  /** A stream that another peer has opened to this one. */
  accept(stream: ByteStream): void {
    this.#streams.accept(stream);
  }

  /** What this sitter says of itself from now on: with the next beat, or at once where others may act on it. */
  say(own: OwnStatement): void {
    const urgent = urgentPart(own) !== urgentPart(this.#own);
    this.#own = own;
    if (urgent) this.#streams.tell();
  }

  /** There is a reason to doubt that peer: look now, and again shortly after. */
  lookNow(id: PeerId): void {
    const peer = this.#peers.get(id);
    if (!peer || peer.freshSince !== undefined) return;
    peer.port.begin();
    peer.status.lookNow();
  }

  evidence(): Readonly<Record<PeerId, PeerEvidence>> {
    this.#stall.check();
    return Object.fromEntries([...this.#peers].map(([id, peer]) => [id, this.#evidenceOf(peer)]));
  }

  /** Peers that are silent for this one on every channel, past the limit of each. */
  silent(): readonly { readonly id: PeerId; readonly forMs: Ms }[] {
    this.#stall.check();
    const now = this.#options.world.clock.now();
    return [...this.#peers.values()]
      .filter((peer) => this.#isSilent(peer))
      .map((peer) => ({ id: peer.address.id, forMs: Math.round(now - this.#sitterOf(peer).since) }));
  }

  stop(): void {
    this.#cancelWatch();
    this.#stall.stop();
    this.#streams.stop();
    for (const peer of this.#peers.values()) {
      peer.status.stop();
      peer.port.end();
    }
    this.#peers.clear();
  }

  #begin(address: PeerAddress): void {
    const { world, limitMs, intervalMs } = this.#options;
    const peer: WatchedPeer = {
      address,
      status: new StatusWatch({
        world,
        address: () => peer.address,
        intervalMs,
        limitMs,
        isIdle: () => peer.freshSince !== undefined,
        hadStream: () => this.#streams.view(address.id)?.heardAt !== undefined,
        checkStall: () => this.#stall.check(),
        onAnswer: () => this.#takeAnswer(peer),
      }),
      said: undefined,
      freshSince: undefined,
      port: new PortWatch({
        clock: world.clock,
        timers: world.timers,
        calmIntervalMs: intervalMs,
        ask: async () => {
          const target = postgresAddress(peer.address);
          return target ? world.network.probePostgres({ ...target, limitMs }) : "silent";
        },
        onChange: () => this.#refresh(peer),
      }),
      brokeAt: undefined,
      told: NOTHING_TOLD,
    };
    this.#peers.set(address.id, peer);
    peer.status.start();
  }

  // --- the stream

  #withPeer(id: PeerId, then: (peer: WatchedPeer) => void): void {
    const peer = this.#peers.get(id);
    if (peer) then(peer);
  }

  #hear(peer: WatchedPeer, said: Statement): void {
    const before = peer.said;
    peer.said = said;
    if (said.leaving && !before?.leaving)
      this.#options.world.log.info("a peer leaves", { peer: peer.address.id, stops: said.leaving });
    for (const other of said.doubts) if (!before?.doubts.includes(other)) this.lookNow(other);
    this.#refresh(peer);
  }

  #refresh(peer: WatchedPeer): void {
    const before = peer.told;
    if (!this.#note(peer)) return;
    // Others hear at once of whoever is silent here, or is not any more.
    if (before.silent !== peer.told.silent) this.#streams.tell();
    this.#options.onChange();
  }

  /** Its connection broke: others are told, so that they look as well. */
  #doubt(peer: WatchedPeer): void {
    peer.brokeAt = this.#options.world.clock.now();
    peer.freshSince = undefined;
    this.lookNow(peer.address.id);
    this.#streams.tell();
    this.#refresh(peer);
  }

  /** Silence is nothing that happens: it is looked for when it can have begun, and then often. */
  #watch(): void {
    this.#stall.check();
    for (const peer of this.#peers.values()) this.#refresh(peer);
    this.#cancelWatch = this.#options.world.timers.after(this.#untilNextWatch(), () => this.#watch());
  }

  #untilNextWatch(): Ms {
    const now = this.#options.world.clock.now();
    const often = this.#options.silence.beatMs / 2;
    const waits = [...this.#peers.values()].map(({ address: { id }, freshSince }) => {
      const view = this.#streams.view(id);
      return freshSince === undefined || view?.heardAt === undefined ? often : view.heardAt + freshForMs(view) - now;
    });
    return Math.max(WATCH_MIN_MS, Math.min(...waits, this.#options.silence.minMs));
  }

  /** Takes in how fresh the stream is; whether anything is different from what was noted last. */
  #note(peer: WatchedPeer): boolean {
    const { id } = peer.address;
    const now = this.#options.world.clock.now();
    const view = this.#streams.view(id);
    const fresh = view?.live === true && view.heardAt !== undefined && now - view.heardAt < freshForMs(view);
    if (fresh) {
      peer.freshSince ??= now;
      peer.port.end();
    } else if (peer.freshSince !== undefined) {
      peer.freshSince = undefined;
      this.lookNow(id);
    }
    const said = fresh ? peer.said : undefined;
    const told: Told = {
      sitter: this.#sitterOf(peer).kind,
      port: peer.port.evidence().kind,
      silent: this.#isSilent(peer),
      refuses: this.#refuses(peer),
      says: said ? urgentPart(said) : peer.status.report?.postgresHealthy,
      misses: (said?.silent ?? peer.status.report?.silent ?? []).map((missing) => missing.id),
    };
    const before = peer.told;
    peer.told = told;
    return !isSame(told, before);
  }

  #statement(): Statement {
    const now = this.#options.world.clock.now();
    const doubts = [...this.#peers]
      .filter(([, { brokeAt }]) => brokeAt !== undefined && now - brokeAt < DOUBT_TOLD_MS)
      .map(([id]) => id);
    return { ...this.#own, silent: this.silent(), doubts };
  }

  // --- what all of it amounts to for one peer

  #evidenceOf(peer: WatchedPeer): PeerEvidence {
    const fresh = peer.freshSince !== undefined && peer.said !== undefined;
    const sitter = this.#sitterOf(peer);
    const limitMs = this.#limitOf(peer);
    const heardAt = this.#streams.view(peer.address.id)?.heardAt;
    const said = fresh || (heardAt !== undefined && peer.status.askedAt < heardAt) ? peer.said : peer.status.report;
    return {
      sitter,
      postgresPort: peer.port.evidence(),
      postgresHealthy: said?.postgresHealthy,
      alsoSilentFor: this.#othersThatMiss(peer.address.id),
      ...(limitMs !== undefined && { silenceLimitMs: limitMs }),
      ...(fresh && peer.said?.abdicates !== undefined && { abdicates: peer.said.abdicates }),
    };
  }

  #isSilent(peer: WatchedPeer): boolean {
    const now = this.#options.world.clock.now();
    const sitter = this.#sitterOf(peer);
    const port = peer.port.evidence();
    const limitMs = this.#limitOf(peer) ?? 0;
    return (
      sitter.kind === "silent" &&
      now - sitter.since >= limitMs &&
      port.kind === "silent" &&
      now - port.since >= limitMs / 2
    );
  }

  #refuses(peer: WatchedPeer): boolean {
    const sitter = this.#sitterOf(peer);
    const port = peer.port.evidence();
    const forMs = this.#options.world.clock.now() - Math.max(sitter.since, port.since);
    return sitter.kind === "refused" && port.kind === "refused" && forMs >= REFUSED_MS;
  }

  #sitterOf({ address: { id }, freshSince, status }: WatchedPeer): SitterEvidence {
    if (freshSince !== undefined) return { kind: "answers", since: freshSince };
    const heardAt = this.#streams.view(id)?.heardAt;
    const { kind, since, askedAt, answeredAt } = status;
    const isNews = (kind === "answers" || kind === "refused") && (heardAt === undefined || askedAt >= heardAt);
    if (heardAt === undefined || isNews) return { kind, since };
    return { kind: "silent", since: Math.max(heardAt, answeredAt ?? heardAt) };
  }

  /** Learned from its stream; undefined: there was none, and the policy's own limit counts. */
  #limitOf(peer: WatchedPeer): Ms | undefined {
    const view = this.#streams.view(peer.address.id);
    if (view?.heardAt === undefined) return undefined;
    return peer.status.kind === "answers" && peer.status.askedAt > view.heardAt ? undefined : view.limitMs;
  }

  #othersThatMiss(id: PeerId): readonly PeerId[] {
    const misses = (silent: readonly { id: PeerId }[] | undefined) => silent?.some((missing) => missing.id === id);
    return [...this.#peers]
      .filter(([other, peer]) => {
        if (other === id) return false;
        // A witness that is not heard itself is none: what it said is of an earlier time.
        if (peer.freshSince !== undefined) return misses(peer.said?.silent);
        return peer.status.kind === "answers" && misses(peer.status.report?.silent);
      })
      .map(([other]) => other)
      .sort();
  }

  #takeAnswer(peer: WatchedPeer): void {
    const answers = peer.status.kind === "answers";
    if (answers || peer.freshSince !== undefined) peer.port.end();
    else peer.port.begin();
    if (answers) this.#streams.openNow(peer.address.id);
    this.#refresh(peer);
  }

  #startOver(stalledMs: Ms): void {
    this.#options.world.log.warn("this process stood still: evidence about other peers starts over", {
      stalledMs: Math.round(stalledMs),
    });
    this.#streams.startOver();
    for (const peer of this.#peers.values()) {
      peer.status.startOver();
      peer.port.startOver();
    }
  }
}

/** Half of the limit is where doubt begins: the other half is for asking the port. */
function freshForMs({ limitMs }: ChannelView): Ms {
  return limitMs / 2;
}

/** What others may act on; positions of WAL go out with the next beat. */
function urgentPart({ postgresHealthy, role, generation, abdicates, leaving }: OwnStatement): string {
  return JSON.stringify([postgresHealthy, role, generation, abdicates, leaving]);
}

function isSame(a: Told, b: Told): boolean {
  return (
    a.sitter === b.sitter &&
    a.port === b.port &&
    a.silent === b.silent &&
    a.refuses === b.refuses &&
    a.says === b.says &&
    a.misses.join() === b.misses.join()
  );
}
