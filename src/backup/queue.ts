// Who sends next: a bounded number at once, a bounded number behind them, and every client in turn, so that one that asks for much does not keep
// the others waiting.

import { ManateeError } from "../base/errors.ts";

export interface QueueBounds {
  readonly sendingMax: number;
  readonly waitingMax: number;
}

/** A place in the queue. */
export interface Place {
  /** Resolves when its turn has come. */
  readonly turn: Promise<void>;
  /** 0: its turn has come; 1: it is the next. */
  position(): number;
  /** Makes room for the next one, whether its turn had come or not. Idempotent. */
  leave(): void;
}

interface Entry {
  readonly client: string;
  readonly begin: () => void;
}

export class TransferQueue {
  readonly #bounds: QueueBounds;
  readonly #sending = new Set<Entry>();
  /** In the order in which they are served. */
  #waiting: Entry[] = [];

  constructor(bounds: QueueBounds) {
    this.#bounds = bounds;
  }

  /** `client`: who is served in turn. @throws `BACKUP_QUEUE_FULL` */
  enter(client: string): Place {
    const free = this.#sending.size < this.#bounds.sendingMax;
    if (!free && this.#waiting.length >= this.#bounds.waitingMax) throw queueFull(this.#bounds);
    let begin = () => {};
    const turn = new Promise<void>((resolve) => (begin = resolve));
    const entry: Entry = { client, begin };
    this.#waiting.push(entry);
    this.#advance();
    return {
      turn,
      position: () => this.#waiting.indexOf(entry) + 1,
      leave: () => {
        this.#sending.delete(entry);
        this.#waiting = this.#waiting.filter((other) => other !== entry);
        this.#advance();
      },
    };
  }

  counts(): { length: number; max: number; sending: number; sendingMax: number } {
    const { sendingMax, waitingMax } = this.#bounds;
    return { length: this.#waiting.length, max: waitingMax, sending: this.#sending.size, sendingMax };
  }

  #advance(): void {
    this.#waiting = inTurn(
      this.#waiting,
      [...this.#sending].map(({ client }) => client),
    );
    while (this.#sending.size < this.#bounds.sendingMax) {
      const next = this.#waiting.shift();
      if (!next) return;
      this.#sending.add(next);
      next.begin();
    }
  }
}

/** First everybody's first, then everybody's second …; what a client is sent already counts. Within a round, who came first. */
export function inTurn<T extends { readonly client: string }>(waiting: readonly T[], sending: readonly string[]): T[] {
  const count = new Map<string, number>();
  const next = (client: string) => {
    const rounds = count.get(client) ?? 0;
    count.set(client, rounds + 1);
    return rounds;
  };
  for (const client of sending) next(client);
  // Array.sort is stable.
  return waiting
    .map((entry) => ({ entry, round: next(entry.client) }))
    .sort((a, b) => a.round - b.round)
    .map(({ entry }) => entry);
}

function queueFull({ sendingMax, waitingMax }: QueueBounds): ManateeError {
  return new ManateeError({
    code: "BACKUP_QUEUE_FULL",
    message: `${sendingMax} transfers are under way and ${waitingMax} wait`,
    remedy: "retry",
    hint: "Ask again later, or ask another peer; backupServerCfg.queueMax is the bound.",
  });
}
