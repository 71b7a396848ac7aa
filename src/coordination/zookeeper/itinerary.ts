// Which server is tried next, when, and for how long. Pure, but for the random that is handed in.

import type { Ms } from "../../base/units.ts";
import type { Random } from "../../world/port.ts";
import type { ServerAddress } from "./connect-string.ts";
import { ATTEMPT_SPACING_MS, FIRST_PAUSE_MS, HANDSHAKE_LIMIT_MS, LAST_PAUSE_MS } from "./limits.ts";

export class Itinerary {
  /** In an order of our own, so that the clients of a store spread over its servers. */
  private readonly servers: readonly ServerAddress[];
  private readonly random: Random;
  private position = -1;
  private attempts = 0;
  private lastStart: Ms = Number.NEGATIVE_INFINITY;

  constructor(servers: readonly ServerAddress[], random: Random) {
    this.random = random;
    this.servers = servers
      .map((server) => ({ server, key: random.number() }))
      .sort((a, b) => a.key - b.key)
      .map(({ server }) => server);
  }

  /** From now to the next attempt: none within a round over all servers, longer ones from round to round, never long for the session. */
  delayMs(now: Ms, sessionTimeoutMs: Ms): Ms {
    const spacing = this.lastStart + ATTEMPT_SPACING_MS - now;
    const round = Math.floor(this.attempts / this.servers.length);
    if (round === 0 || this.attempts % this.servers.length !== 0) return Math.max(spacing, 0);
    const pause = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(round - 1, 10), LAST_PAUSE_MS, sessionTimeoutMs / 8);
    return Math.max(spacing, pause * (0.5 + this.random.number() / 2));
  }

  /**
   * The server to try now. In the first round all of them must have their turn within the session's time; a server that is only slow gets more
   * from round to round.
   */
  next(now: Ms, sessionTimeoutMs: Ms): { server: ServerAddress; handshakeLimitMs: Ms } {
    const round = Math.floor(this.attempts / this.servers.length);
    this.attempts++;
    this.lastStart = now;
    this.position = (this.position + 1) % this.servers.length;
    const server = this.servers[this.position];
    if (server === undefined) throw new RangeError("no servers");
    const share = (sessionTimeoutMs / this.servers.length) * 2 ** Math.min(round, 10);
    return { server, handshakeLimitMs: Math.min(share, HANDSHAKE_LIMIT_MS) };
  }

  /** The last one took us: when it is lost, the next is tried at once. */
  arrived(): void {
    this.attempts = 0;
  }
}
