// A connection to the own server that is kept for a moment, so that a look costs a question and no new process of the server's. For a moment only: a
// stopped postmaster still answers on connections that are open, and only opening one shows that it lives.

import type { Ms } from "../../base/units.ts";
import type { Clock, Timers } from "../../world/port.ts";
import { Connection, type SqlSession, type SqlTarget } from "./sql.ts";

/** Less than what counts as silence anywhere. */
const KEPT_MS: Ms = 500;

export class KeptSession {
  readonly #target: SqlTarget;
  readonly #clock: Clock;
  readonly #timers: Timers;
  #kept: { readonly connection: Connection; readonly openedAt: Ms } | undefined;

  constructor({ target, clock, timers }: { target: SqlTarget; clock: Clock; timers: Timers }) {
    this.#target = target;
    this.#clock = clock;
    this.#timers = timers;
  }

  /**
   * For single questions without an effect, which are asked again on a new connection where the kept one has broken. Errors as
   * {@link Connection.use}, of a connection that was opened for it.
   */
  async ask<T>(limitMs: Ms, question: (session: SqlSession) => Promise<T>): Promise<T> {
    const limits = { limitMs, timers: this.#timers };
    const kept = this.#kept;
    if (kept && !kept.connection.broken && this.#clock.now() - kept.openedAt < KEPT_MS) {
      try {
        return await kept.connection.use(limits, question);
      } catch {
        // What it is worth shows on a new one.
      }
    }
    const fresh = { connection: new Connection(this.#target), openedAt: this.#clock.now() };
    const answer = await fresh.connection.use(limits, question);
    const before = this.#kept;
    this.#kept = fresh;
    before?.connection.end();
    return answer;
  }

  end(): void {
    this.#kept?.connection.end();
    this.#kept = undefined;
  }
}
