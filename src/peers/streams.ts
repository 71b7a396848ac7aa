// The streams of one sitter, one to each peer: of two, the one with the lower name opens it, at the other's status port. Opened again for as long as it
// takes; whoever doesn't understand it, or can't prove itself, is still asked over HTTP (peer-watch.ts).

import { explainError } from "../base/errors.ts";
import type { PeerId } from "../base/peer-id.ts";
import type { Ms } from "../base/units.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { ByteStream, World } from "../world/port.ts";
import { statusAddress } from "./address.ts";
import { beGreeted, type Greeted, greet, type GreetingOptions, type Successor } from "./greeting.ts";
import type { Self } from "./handshake.ts";
import { PeerStream } from "./peer-stream.ts";
import { sharedKey } from "./shared-key.ts";
import { SilenceLimit, type SilenceOptions } from "./silence.ts";
import { Lines, type Statement } from "./wire.ts";

const GREETING_LIMIT_MS: Ms = 2_000;
/** Streams that have not proved themselves yet: a shard has a handful of peers. */
const GREETINGS_MAX = 32;
const RETRY_MS: Ms = 100;
const RETRY_MAX_MS: Ms = 3_000;
/** A stream that has been silent for so many of its limits is opened anew: the connection may be dead while the peer is not. */
const ABANDON_AFTER_LIMITS = 4;
/** The same complaint is logged once in this time. */
const COMPLAIN_AGAIN_MS: Ms = 60_000;

export interface StreamsOptions {
  readonly world: World;
  readonly self: Self;
  /** The shard's replication password; undefined: there is none yet. */
  readonly secret: () => Promise<string | undefined>;
  readonly silence: SilenceOptions;
  readonly connectLimitMs: Ms;
  /** What to say now. */
  readonly says: () => Statement;
  /** It said something, perhaps the same as before. */
  readonly onStatement: (id: PeerId, statement: Statement) => void;
  readonly onUp: (id: PeerId) => void;
  /** The connection broke: its process has ended, or the way there. */
  readonly onBroken: (id: PeerId) => void;
}

interface Channel {
  address: PeerAddress;
  readonly limit: SilenceLimit;
  live: PeerStream | undefined;
  opening: boolean;
  failures: number;
  cancelRetry: () => void;
  /** When it was last heard, over this stream or the one before. */
  heardAt: Ms | undefined;
}

export interface ChannelView {
  readonly live: boolean;
  readonly heardAt: Ms | undefined;
  readonly limitMs: Ms;
}

export class PeerStreams {
  readonly #options: StreamsOptions;
  readonly #channels = new Map<PeerId, Channel>();
  readonly #complained = new Map<string, Ms>();
  #greetings = 0;
  #stopped = false;
  #cancelBeat: () => void = () => {};

  constructor(options: StreamsOptions) {
    this.#options = options;
    this.#beat();
  }

  follow(addresses: readonly PeerAddress[]): void {
    const wanted = new Set(addresses.map(({ id }) => id));
    for (const [id, channel] of this.#channels) {
      if (wanted.has(id)) continue;
      channel.cancelRetry();
      channel.live?.close();
      this.#channels.delete(id);
    }
    for (const address of addresses) {
      const known = this.#channels.get(address.id);
      if (known) known.address = address;
      else this.#begin(address);
    }
  }

  /** A connection that somebody opened here. */
  accept(stream: ByteStream): void {
    if (this.#stopped || this.#greetings >= GREETINGS_MAX) return stream.abort();
    this.#greetings++;
    const over = (): void => void this.#greetings--;
    void this.#key().then((key) => {
      if (!key || this.#stopped) {
        over();
        return stream.abort();
      }
      beGreeted(
        this.#greeting(stream, key, {
          done: (greeted) => (over(), this.#adopt(greeted)),
          fail: (because) => (over(), this.#complain("a stream that was opened here is refused", because)),
        }),
      );
    });
  }

  /** There is news: it is told now, not with the next beat. */
  tell(): void {
    const statement = this.#options.says();
    for (const { live } of this.#channels.values()) live?.say(statement);
  }

  /** It may be there again. */
  openNow(id: PeerId): void {
    const channel = this.#channels.get(id);
    if (!channel || channel.live || channel.opening) return;
    channel.cancelRetry();
    void this.#open(channel);
  }

  view(id: PeerId): ChannelView | undefined {
    const channel = this.#channels.get(id);
    if (!channel) return undefined;
    const { live, limit } = channel;
    return { live: live !== undefined, heardAt: live?.heardAt ?? channel.heardAt, limitMs: limit.limitMs };
  }

  /** This process stood still: silence counts from now. */
  startOver(): void {
    for (const channel of this.#channels.values()) {
      channel.live?.startOver();
      if (channel.heardAt !== undefined) channel.heardAt = this.#options.world.clock.now();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelBeat();
    this.follow([]);
  }

  #beat(): void {
    this.tell();
    const now = this.#options.world.clock.now();
    for (const channel of this.#channels.values()) {
      const { live, limit } = channel;
      if (!live || now - live.heardAt < limit.limitMs * ABANDON_AFTER_LIMITS) continue;
      live.abort();
      this.#lose(channel, live);
    }
    this.#cancelBeat = this.#options.world.timers.after(this.#options.silence.beatMs, () => this.#beat());
  }

  #begin(address: PeerAddress): void {
    const channel: Channel = {
      address,
      limit: new SilenceLimit(this.#options.silence),
      live: undefined,
      opening: false,
      failures: 0,
      cancelRetry: () => {},
      heardAt: undefined,
    };
    this.#channels.set(address.id, channel);
    void this.#open(channel);
  }

  /** Never rejects. */
  async #open(channel: Channel): Promise<void> {
    const { self, world, connectLimitMs } = this.#options;
    const target = statusAddress(channel.address);
    if (!target || self.id > channel.address.id) return;
    channel.opening = true;
    const key = await this.#key();
    const stream = key && (await world.network.openStream({ ...target, limitMs: connectLimitMs }));
    if (!key || !stream || typeof stream === "string" || !this.#isCurrent(channel) || channel.live) {
      if (stream === "declined")
        this.#complain(
          `the stream to ${channel.address.id} does not come about`,
          "its sitter answers, but takes no stream: it is older, or peers.tls is not the same there",
        );
      if (stream && typeof stream !== "string") stream.abort();
      channel.opening = false;
      return this.#retry(channel);
    }
    const { id } = channel.address;
    const done = (greeted: Greeted): Successor | undefined => {
      channel.opening = false;
      return this.#adopt(greeted);
    };
    const fail = (because: string): void => {
      channel.opening = false;
      this.#complain(`the stream to ${id} does not come about`, because);
      this.#retry(channel);
    };
    greet(this.#greeting(stream, key, { done, fail }), id);
  }

  #retry(channel: Channel): void {
    if (!this.#isCurrent(channel) || channel.live) return;
    const { random, timers } = this.#options.world;
    const delay = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(channel.failures++, 10));
    channel.cancelRetry();
    channel.cancelRetry = timers.after(delay * (0.5 + random.number() / 2), () => void this.#open(channel));
  }

  #greeting(
    stream: ByteStream,
    key: Uint8Array,
    { done, fail }: { done: (greeted: Greeted) => Successor | undefined; fail: (because: string) => void },
  ): GreetingOptions {
    const { self, world } = this.#options;
    return { stream, self, key, world, limitMs: GREETING_LIMIT_MS, onDone: done, onFail: fail };
  }

  /** The newest one counts: the one before it is dead, or the peer would not have opened another. */
  #adopt({ stream, side, peer, run, streamKey }: Greeted): Successor | undefined {
    const channel = this.#channels.get(peer);
    if (this.#stopped || !channel) {
      stream.abort();
      return undefined;
    }
    const { world, says, onStatement, onUp } = this.#options;
    channel.live?.abort();
    channel.cancelRetry();
    const live: PeerStream = new PeerStream({
      stream,
      side,
      streamKey,
      limit: channel.limit,
      clock: world.clock,
      crypto: world.crypto,
      onStatement: (statement) => statement && channel.live === live && onStatement(peer, statement),
      onEnd: ({ how, because }) => {
        if (channel.live !== live) return;
        world.log[how === "malformed" ? "warn" : "info"]("stream to peer ended", { peer, how, because });
        this.#lose(channel, live);
      },
    });
    channel.live = live;
    channel.failures = 0;
    world.log.info("stream to peer is up", { peer, run, opened: side === "opener" ? "here" : "there" });
    const lines = new Lines();
    live.say(says());
    onUp(peer);
    return { onText: (text) => live.take(text, lines), onEnd: (how) => live.connectionEnded(how) };
  }

  #lose(channel: Channel, live: PeerStream): void {
    channel.heardAt = live.heardAt;
    channel.live = undefined;
    this.#options.onBroken(channel.address.id);
    void this.#open(channel);
  }

  #isCurrent(channel: Channel): boolean {
    return !this.#stopped && this.#channels.get(channel.address.id) === channel;
  }

  async #key(): Promise<Uint8Array | undefined> {
    const { secret, world } = this.#options;
    try {
      const password = await secret();
      return password === undefined ? undefined : sharedKey(password, world.crypto);
    } catch (error) {
      this.#complain("no streams to other peers", explainError(error));
      return undefined;
    }
  }

  #complain(message: string, because: string): void {
    const { log, clock } = this.#options.world;
    const what = `${message}: ${because}`;
    const last = this.#complained.get(what);
    if (last !== undefined && clock.now() - last < COMPLAIN_AGAIN_MS) return;
    if (this.#complained.size > GREETINGS_MAX) this.#complained.clear();
    this.#complained.set(what, clock.now());
    log.warn(message, { because });
  }
}
