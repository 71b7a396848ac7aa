// The right to this sitter's session, kept in a file, so that a sitter that was killed comes back as the same member of the election.

import { z } from "zod";
import { explainError } from "../base/errors.ts";
import type { SessionTicket } from "../coordination/port.ts";
import type { World } from "../world/port.ts";

const OWNER_ONLY = 0o600;

const schema = z.object({ store: z.string(), sessionId: z.string(), secret: z.string() });

export class TicketFile {
  readonly #path: string;
  readonly #store: string;
  readonly #world: World;
  #kept: SessionTicket | undefined;
  /** Writes follow each other, so that the file holds the newest. */
  #last: Promise<void> = Promise.resolve();

  /** `store`: a ticket of another store is worth nothing. */
  constructor({ path, store, world }: { path: string; store: string; world: World }) {
    this.#path = path;
    this.#store = store;
    this.#world = world;
  }

  /** undefined where there is none that can be used; a ticket is a convenience, so that nothing fails for the lack of it. */
  async read(): Promise<SessionTicket | undefined> {
    try {
      const text = await this.#world.files.read(this.#path);
      if (text === undefined) return undefined;
      const { store, sessionId, secret } = schema.parse(JSON.parse(text));
      if (store !== this.#store) return undefined;
      this.#kept = { sessionId, secret };
      return this.#kept;
    } catch (error) {
      this.#world.log.warn("session ticket not usable", { path: this.#path, error: explainError(error) });
      return undefined;
    }
  }

  /** Begins to make the file hold this ticket. Never rejects. */
  keep(ticket: SessionTicket | undefined): Promise<void> {
    if (ticket?.sessionId === this.#kept?.sessionId && ticket?.secret === this.#kept?.secret) return this.#last;
    this.#kept = ticket;
    this.#last = this.#last.then(() => this.#write(ticket));
    return this.#last;
  }

  async #write(ticket: SessionTicket | undefined): Promise<void> {
    try {
      if (ticket === undefined) await this.#world.files.remove(this.#path);
      else
        await this.#world.files.write(this.#path, `${JSON.stringify({ store: this.#store, ...ticket })}\n`, {
          mode: OWNER_ONLY,
        });
    } catch (error) {
      this.#world.log.warn("session ticket not kept", { path: this.#path, error: explainError(error) });
    }
  }
}
