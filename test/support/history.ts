// What clients saw: each operation with its beginning, its end, what was answered, and by which server. The checker judges it.

/** Milliseconds of the monotonic clock of the process that records. */
type Ms = number;

/** The server that answered, as it names itself in the same statement. */
export interface Answerer {
  /** Unique among the peers of the shard: the PostgreSQL port. */
  readonly peer: string;
  readonly systemIdentifier: string;
  readonly timeline: number;
}

/** `fail`: the server said that nothing happened. `unknown`: no answer, or one that leaves it open. `open`: not ended yet. */
export type Outcome = "open" | "ok" | "fail" | "unknown";

export interface InsertOperation {
  readonly kind: "insert";
  readonly client: string;
  /** Unique in the history. */
  readonly id: number;
  readonly invokedAt: Ms;
  readonly endedAt: Ms | undefined;
  readonly outcome: Outcome;
  readonly answerer: Answerer | undefined;
  readonly error: string | undefined;
}

export interface ReadOperation {
  readonly kind: "read";
  readonly client: string;
  readonly invokedAt: Ms;
  readonly endedAt: Ms | undefined;
  readonly outcome: Outcome;
  readonly answerer: Answerer | undefined;
  /** All that it saw. */
  readonly ids: readonly number[];
  readonly error: string | undefined;
}

export type Operation = InsertOperation | ReadOperation;

export interface PendingInsert {
  readonly id: number;
  ok(answerer: Answerer): void;
  fail(error: string): void;
  unknown(error: string): void;
}

export interface PendingRead {
  ok(answerer: Answerer, ids: readonly number[]): void;
  fail(error: string): void;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Collects operations in the order in which they began. */
export class History {
  readonly #operations: Operation[] = [];
  readonly #now: () => Ms;
  #lastId = 0;

  constructor(now: () => Ms = () => performance.now()) {
    this.#now = now;
  }

  /** An empty one, whose ids go on behind those of this one. */
  successor(): History {
    const next = new History(this.#now);
    next.#lastId = this.#lastId;
    return next;
  }

  get operations(): readonly Operation[] {
    return this.#operations;
  }

  now(): Ms {
    return this.#now();
  }

  /** Gives the insert an id that no other has. */
  insert(client: string): PendingInsert {
    const id = ++this.#lastId;
    const operation: Mutable<InsertOperation> = {
      kind: "insert",
      client,
      id,
      invokedAt: this.#now(),
      endedAt: undefined,
      outcome: "open",
      answerer: undefined,
      error: undefined,
    };
    this.#operations.push(operation);
    const end = (outcome: Outcome, answerer: Answerer | undefined, error: string | undefined) => {
      if (operation.outcome !== "open") throw new Error(`insert ${id} ended twice`);
      Object.assign(operation, { endedAt: this.#now(), outcome, answerer, error });
    };
    return {
      id,
      ok: (answerer) => end("ok", answerer, undefined),
      fail: (error) => end("fail", undefined, error),
      unknown: (error) => end("unknown", undefined, error),
    };
  }

  read(client: string): PendingRead {
    const operation: Mutable<ReadOperation> = {
      kind: "read",
      client,
      invokedAt: this.#now(),
      endedAt: undefined,
      outcome: "open",
      answerer: undefined,
      ids: [],
      error: undefined,
    };
    this.#operations.push(operation);
    return {
      ok: (answerer, ids) => Object.assign(operation, { endedAt: this.#now(), outcome: "ok", answerer, ids }),
      fail: (error) => Object.assign(operation, { endedAt: this.#now(), outcome: "fail", error }),
    };
  }

  /** How many inserts were acknowledged. */
  acknowledged(): number {
    return acknowledgements(this.#operations).length;
  }
}

/** Acknowledged inserts in the order of their acknowledgement. */
export function acknowledgements(
  operations: readonly Operation[],
): readonly (InsertOperation & { endedAt: Ms; answerer: Answerer })[] {
  return operations
    .filter(
      (operation): operation is InsertOperation & { endedAt: Ms; answerer: Answerer } =>
        operation.kind === "insert" && operation.outcome === "ok",
    )
    .sort((a, b) => a.endedAt - b.endedAt);
}

export interface Gap {
  readonly lengthMs: Ms;
  readonly from: Ms;
  readonly to: Ms;
}

/** The longest time between two acknowledged inserts of any client, of those that end in [from, to]. */
export function longestGap(
  operations: readonly Operation[],
  { from = -Infinity, to = Infinity } = {},
): Gap | undefined {
  const times = acknowledgements(operations)
    .map(({ endedAt }) => endedAt)
    .filter((at) => at >= from && at <= to);
  let longest: Gap | undefined;
  for (let i = 1; i < times.length; i++) {
    const [a, b] = [times[i - 1] as Ms, times[i] as Ms];
    if (longest === undefined || b - a > longest.lengthMs) longest = { lengthMs: b - a, from: a, to: b };
  }
  return longest;
}
