// Evidence about the other peers (D2): asks each one's sitter how it is, at intervals and at once when there is a reason to, and where
// the sitter doesn't answer, whether its PostgreSQL's port does. It only gathers; what evidence amounts to is decided in cluster/.

import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import type { PeerEvidence } from "../cluster/observation.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { World } from "../world/port.ts";
import { postgresAddress, statusAddress } from "./address.ts";
import { type NeighbourReport, parsePeerReport } from "./peer-report.ts";
import { StallDetector } from "./stall.ts";

/** After a reason to look, so many looks follow quickly: a sitter hears of its server's death some milliseconds later than we do. */
const EAGER_LOOKS = 5;
const EAGER_INTERVAL_MS = 100;
/** A peer that says it is well is asked so many times less often: whatever changes about it gives a reason to look at once. */
const CALM_FACTOR = 3;

export interface PeerWatchOptions {
  readonly world: World;
  readonly intervalMs: Ms;
  /** Of one question. */
  readonly limitMs: Ms;
  /** Something about some peer is different from before. */
  readonly onChange: () => void;
}

type SitterKind = PeerEvidence["sitter"]["kind"];
type PortKind = PeerEvidence["postgresPort"]["kind"];

interface WatchedPeer {
  address: PeerAddress;
  sitter: { kind: SitterKind; since: Ms };
  postgresPort: { kind: PortKind; since: Ms };
  report: NeighbourReport | undefined;
  eagerLooks: number;
  looking: boolean;
  cancelTimer: () => void;
}

export class PeerWatch {
  readonly #options: PeerWatchOptions;
  readonly #peers = new Map<PeerId, WatchedPeer>();
  readonly #stall: StallDetector;
  /** Grows with each stall of our own: an answer asked for before it is not taken. */
  #stalls = 0;
  #stopped = false;

  constructor(options: PeerWatchOptions) {
    this.#options = options;
    const { clock, timers } = options.world;
    this.#stall = new StallDetector({ clock, timers, onStall: (stalledMs) => this.#startOver(stalledMs) });
    this.#stall.start();
  }

  /** Watches these and no others. */
  follow(addresses: readonly PeerAddress[]): void {
    const wanted = new Map(addresses.map((address) => [address.id, address]));
    for (const [id, peer] of this.#peers) {
      if (wanted.has(id)) continue;
      peer.cancelTimer();
      this.#peers.delete(id);
    }
    for (const [id, address] of wanted) {
      const known = this.#peers.get(id);
      if (known) known.address = address;
      else this.#begin(address);
    }
  }

  /** There is a reason to doubt that peer: look now, and again shortly after. */
  lookNow(id: PeerId): void {
    const peer = this.#peers.get(id);
    if (!peer) return;
    peer.eagerLooks = EAGER_LOOKS;
    if (peer.looking) return;
    peer.cancelTimer();
    void this.#look(peer);
  }

  evidence(): Readonly<Record<PeerId, PeerEvidence>> {
    this.#stall.check();
    return Object.fromEntries(
      [...this.#peers].map(([id, { sitter, postgresPort, report }]) => [
        id,
        {
          sitter: { ...sitter },
          postgresPort: { ...postgresPort },
          postgresHealthy: report?.postgresHealthy,
          alsoSilentFor: this.#othersThatMiss(id),
        },
      ]),
    );
  }

  /** Peers that are silent for this one, by sitter and PostgreSQL's port alike. */
  silent(): readonly { readonly id: PeerId; readonly forMs: Ms }[] {
    this.#stall.check();
    const now = this.#options.world.clock.now();
    return [...this.#peers]
      .filter(([, { sitter, postgresPort }]) => sitter.kind === "silent" && postgresPort.kind !== "open")
      .map(([id, { sitter }]) => ({ id, forMs: Math.round(now - sitter.since) }));
  }

  stop(): void {
    this.#stopped = true;
    this.#stall.stop();
    for (const peer of this.#peers.values()) peer.cancelTimer();
    this.#peers.clear();
  }

  #begin(address: PeerAddress): void {
    const since = this.#options.world.clock.now();
    const peer: WatchedPeer = {
      address,
      sitter: { kind: "unknown", since },
      postgresPort: { kind: "unknown", since },
      report: undefined,
      eagerLooks: 0,
      looking: false,
      cancelTimer: () => {},
    };
    this.#peers.set(address.id, peer);
    void this.#look(peer);
  }

  /** One look, and the timer for the next. Never rejects. */
  async #look(peer: WatchedPeer): Promise<void> {
    peer.looking = true;
    const askedAt = this.#options.world.clock.now();
    const stalls = this.#stalls;
    // Where the last look had no answer both questions are asked at once: one after the other they take twice the limit.
    const missing = peer.sitter.kind === "refused" || peer.sitter.kind === "silent";
    const [sitter, early] = await Promise.all([this.#askSitter(peer), missing ? this.#probePostgres(peer) : undefined]);
    const port: PortKind = sitter.kind === "answers" ? "unknown" : (early ?? (await this.#probePostgres(peer)));
    peer.looking = false;
    if (this.#stopped || this.#peers.get(peer.address.id) !== peer) return;
    this.#stall.check();
    if (stalls === this.#stalls) this.#take(peer, { askedAt, sitter: sitter.kind, port, report: sitter.report });
    this.#lookLater(peer);
  }

  #lookLater(peer: WatchedPeer): void {
    const eager = peer.eagerLooks > 0;
    if (eager) peer.eagerLooks--;
    const { intervalMs } = this.#options;
    const calm = peer.sitter.kind === "answers" && peer.report?.postgresHealthy === true;
    const delay = eager ? Math.min(EAGER_INTERVAL_MS, intervalMs) : calm ? intervalMs * CALM_FACTOR : intervalMs;
    peer.cancelTimer = this.#options.world.timers.after(delay, () => void this.#look(peer));
  }

  #take(
    peer: WatchedPeer,
    look: { askedAt: Ms; sitter: SitterKind; port: PortKind; report: NeighbourReport | undefined },
  ): void {
    const before = JSON.stringify([
      peer.sitter.kind,
      peer.postgresPort.kind,
      peer.report?.postgresHealthy,
      missedBy(peer),
    ]);
    // Silence began when we asked, at the latest; an answer or a refusal is of now.
    const now = this.#options.world.clock.now();
    const since = (kind: SitterKind | PortKind) => (kind === "silent" ? look.askedAt : now);
    if (peer.sitter.kind !== look.sitter) peer.sitter = { kind: look.sitter, since: since(look.sitter) };
    if (peer.postgresPort.kind !== look.port) peer.postgresPort = { kind: look.port, since: since(look.port) };
    peer.report = look.report;
    const after = JSON.stringify([
      peer.sitter.kind,
      peer.postgresPort.kind,
      peer.report?.postgresHealthy,
      missedBy(peer),
    ]);
    if (before !== after) this.#options.onChange();
  }

  async #askSitter(peer: WatchedPeer): Promise<{ kind: SitterKind; report: NeighbourReport | undefined }> {
    const { world, limitMs } = this.#options;
    const target = statusAddress(peer.address);
    if (!target) return { kind: "unknown", report: undefined };
    const answer = await world.network.httpGet({ ...target, path: "/state", limitMs });
    if (typeof answer === "string") return { kind: answer, report: undefined };
    const report = parsePeerReport(answer.body);
    // Somebody else at its address: that peer itself isn't there.
    if (report && report.id !== peer.address.id) return { kind: "refused", report: undefined };
    return { kind: "answers", report };
  }

  async #probePostgres(peer: WatchedPeer): Promise<PortKind> {
    const target = postgresAddress(peer.address);
    if (!target) return "unknown";
    return this.#options.world.network.probePort({ ...target, limitMs: this.#options.limitMs });
  }

  #othersThatMiss(id: PeerId): readonly PeerId[] {
    return [...this.#peers]
      .filter(([other, { report }]) => other !== id && report?.silent.some((missing) => missing.id === id))
      .map(([other]) => other)
      .sort();
  }

  #startOver(stalledMs: Ms): void {
    this.#stalls++;
    const now = this.#options.world.clock.now();
    this.#options.world.log.warn("this process stood still: evidence about other peers starts over", {
      stalledMs: Math.round(stalledMs),
    });
    for (const peer of this.#peers.values()) {
      peer.sitter.since = now;
      peer.postgresPort.since = now;
    }
  }
}

function missedBy(peer: WatchedPeer): readonly PeerId[] {
  return (peer.report?.silent ?? []).map(({ id }) => id);
}
