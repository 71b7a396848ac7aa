// Judges transactions that append to lists and read them, against what is there in the end. A list that is read shows which transactions came before, and in which
// order: from that follow the dependencies between all of them, and a cycle among these is an anomaly. The idea is Elle's (Kingsbury and Alvaro, VLDB 2020).

/** What one step of a transaction did. */
export type Step =
  | { readonly kind: "append"; readonly key: number; readonly value: number }
  | { readonly kind: "read"; readonly key: number; readonly values: readonly number[] };

export interface Transaction {
  /** Unique. */
  readonly id: number;
  readonly client: string;
  /** `fail`: the server said that nothing happened. `unknown`: no answer, or one that leaves it open. */
  readonly outcome: "ok" | "fail" | "unknown";
  /** Those that were answered; an append whose answer is missing stands here, too. */
  readonly steps: readonly Step[];
}

export type Lists = ReadonlyMap<number, readonly number[]>;

export interface Anomaly {
  readonly kind:
    | "append-lost"
    | "append-twice"
    | "append-from-nowhere"
    | "failed-append-present"
    | "read-not-in-the-end"
    | "read-of-half-a-transaction"
    | "own-append-not-read"
    | "cycle-of-writes"
    | "cycle-of-information"
    | "cycle-with-one-anti-dependency"
    | "cycle-with-anti-dependencies";
  readonly message: string;
}

interface Dependency {
  readonly to: number;
  /** `rw`: what the first read was replaced by the second. */
  readonly kind: "ww" | "wr" | "rw";
  readonly key: number;
}

/** All that the transactions show to be wrong; empty if nothing. `finals`: each list in its order, once nothing runs any more. */
export function anomaliesOf(transactions: readonly Transaction[], finals: Lists): readonly Anomaly[] {
  const writers = new Map<string, Transaction>();
  for (const transaction of transactions)
    for (const step of transaction.steps)
      if (step.kind === "append") writers.set(nameOf(step.key, step.value), transaction);
  return [
    ...checkFinals(transactions, finals, writers),
    ...transactions.flatMap((transaction) => checkReads(transaction, finals, writers)),
    ...checkCycles(transactions, finals, writers),
  ];
}

const nameOf = (key: number, value: number): string => `${key}:${value}`;

function checkFinals(
  transactions: readonly Transaction[],
  finals: Lists,
  writers: ReadonlyMap<string, Transaction>,
): Anomaly[] {
  const anomalies: Anomaly[] = [];
  const present = new Set<string>();
  for (const [key, values] of finals)
    for (const value of values) {
      const name = nameOf(key, value);
      const writer = writers.get(name);
      if (present.has(name)) anomalies.push({ kind: "append-twice", message: `${name} is there twice` });
      present.add(name);
      if (writer === undefined)
        anomalies.push({ kind: "append-from-nowhere", message: `${name} is there, and nobody appended it` });
      else if (writer.outcome === "fail")
        anomalies.push({
          kind: "failed-append-present",
          message: `${name} is there, and ${describe(writer)} was refused`,
        });
    }
  for (const transaction of transactions) {
    const missing = transaction.steps.filter(
      (step) => step.kind === "append" && !present.has(nameOf(step.key, step.value)),
    );
    const appends = transaction.steps.filter(({ kind }) => kind === "append").length;
    if (missing.length === 0 || (transaction.outcome !== "ok" && missing.length === appends)) continue;
    anomalies.push({
      kind: "append-lost",
      message: `of ${describe(transaction)} (${transaction.outcome}) ${missing.map((step) => nameOf(step.key, (step as { value: number }).value)).join(", ")} is not there`,
    });
  }
  return anomalies;
}

/** What was read is the beginning of what is there in the end, transaction by transaction; also where the reader did not commit: it has seen it. */
function checkReads(
  transaction: Transaction,
  finals: Lists,
  writers: ReadonlyMap<string, Transaction>,
): readonly Anomaly[] {
  const anomalies: Anomaly[] = [];
  const own = new Map<number, number[]>();
  for (const step of transaction.steps) {
    if (step.kind === "append") {
      own.set(step.key, [...(own.get(step.key) ?? []), step.value]);
      continue;
    }
    const mine = own.get(step.key) ?? [];
    const others = step.values.slice(0, step.values.length - mine.length);
    const tail = step.values.slice(others.length);
    const read = `${describe(transaction)} read ${step.key} as [${step.values.join(" ")}]`;
    if (tail.length !== mine.length || tail.some((value, i) => value !== mine[i])) {
      anomalies.push({ kind: "own-append-not-read", message: `${read}, after it had appended ${mine.join(", ")}` });
      continue;
    }
    const final = finals.get(step.key) ?? [];
    const at = others.findIndex((value, i) => value !== final[i]);
    if (at >= 0)
      anomalies.push({
        kind: "read-not-in-the-end",
        message: `${read}; in the end ${nameOf(step.key, others[at] as number)} is not at place ${at + 1}, but ${final[at] ?? "nothing"}`,
      });
    const last = others.at(-1);
    const next = final[others.length];
    const writer = last === undefined ? undefined : writers.get(nameOf(step.key, last));
    if (writer !== undefined && next !== undefined && writers.get(nameOf(step.key, next)) === writer)
      anomalies.push({
        kind: "read-of-half-a-transaction",
        message: `${read}, without ${nameOf(step.key, next)}, which ${describe(writer)} appended as well`,
      });
  }
  return anomalies;
}

/** Of the transactions that took place: those acknowledged, and those left open whose appends are there. */
function checkCycles(
  transactions: readonly Transaction[],
  finals: Lists,
  writers: ReadonlyMap<string, Transaction>,
): readonly Anomaly[] {
  const writerIn = (key: number, place: number): number | undefined => {
    const value = finals.get(key)?.[place];
    return value === undefined ? undefined : writers.get(nameOf(key, value))?.id;
  };
  const tookPlace = new Map(
    transactions
      .filter(
        ({ outcome, steps }) =>
          outcome === "ok" ||
          (outcome === "unknown" &&
            steps.some((step) => step.kind === "append" && finals.get(step.key)?.includes(step.value) === true)),
      )
      .map((transaction) => [transaction.id, transaction] as const),
  );
  const graph = new Map<number, Dependency[]>([...tookPlace.keys()].map((id) => [id, []]));
  const depend = (from: number | undefined, kind: Dependency["kind"], to: number | undefined, key: number): void => {
    if (from === undefined || to === undefined || from === to || !graph.has(to)) return;
    graph.get(from)?.push({ to, kind, key });
  };
  for (const [key, values] of finals)
    for (let i = 0; i + 1 < values.length; i++) depend(writerIn(key, i), "ww", writerIn(key, i + 1), key);
  for (const { id, steps } of tookPlace.values()) {
    const appended = new Set<number>();
    for (const step of steps) {
      if (step.kind === "append") appended.add(step.key);
      // Behind an append of its own, a read tells nothing new.
      else if (!appended.has(step.key)) {
        depend(writerIn(step.key, step.values.length - 1), "wr", id, step.key);
        depend(id, "rw", writerIn(step.key, step.values.length), step.key);
      }
    }
  }
  return componentsOf(graph).map((component) => describeCycle(shortestCycle(graph, component), tookPlace));
}

/** Strongly connected components of more than one node (Tarjan's algorithm, without recursion). */
function componentsOf(graph: ReadonlyMap<number, readonly Dependency[]>): readonly (readonly number[])[] {
  const index = new Map<number, number>();
  const low = new Map<number, number>();
  const open: number[] = [];
  const isOpen = new Set<number>();
  const components: number[][] = [];
  const enter = (node: number): { node: number; next: number } => {
    index.set(node, index.size);
    low.set(node, index.get(node) as number);
    open.push(node);
    isOpen.add(node);
    return { node, next: 0 };
  };
  for (const root of graph.keys()) {
    if (index.has(root)) continue;
    const path = [enter(root)];
    for (let at = path.at(-1); at !== undefined; at = path.at(-1)) {
      const { node } = at;
      const edge = graph.get(node)?.[at.next++];
      if (edge !== undefined) {
        if (!index.has(edge.to)) path.push(enter(edge.to));
        else if (isOpen.has(edge.to)) low.set(node, Math.min(low.get(node) as number, index.get(edge.to) as number));
        continue;
      }
      path.pop();
      const parent = path.at(-1)?.node;
      if (parent !== undefined) low.set(parent, Math.min(low.get(parent) as number, low.get(node) as number));
      if (low.get(node) !== index.get(node)) continue;
      const component = open.splice(open.indexOf(node));
      for (const member of component) isOpen.delete(member);
      if (component.length > 1) components.push(component);
    }
  }
  return components;
}

/** Of a component: the shortest one through its first node; dependencies that say more come first. */
function shortestCycle(
  graph: ReadonlyMap<number, readonly Dependency[]>,
  component: readonly number[],
): readonly { readonly from: number; readonly edge: Dependency }[] {
  const within = new Set(component);
  const [start = 0] = component;
  const cameBy = new Map<number, { from: number; edge: Dependency }>();
  const queue = [start];
  for (let from = queue.shift(); from !== undefined; from = queue.shift())
    for (const edge of graph.get(from) ?? []) {
      if (!within.has(edge.to) || cameBy.has(edge.to)) continue;
      cameBy.set(edge.to, { from, edge });
      queue.push(edge.to);
    }
  const cycle: { from: number; edge: Dependency }[] = [];
  let node = start;
  do {
    const step = cameBy.get(node);
    if (step === undefined) throw new Error(`transaction ${start} is on no cycle`);
    cycle.unshift(step);
    node = step.from;
  } while (node !== start);
  return cycle;
}

function describeCycle(
  cycle: readonly { readonly from: number; readonly edge: Dependency }[],
  transactions: ReadonlyMap<number, Transaction>,
): Anomaly {
  const anti = cycle.filter(({ edge }) => edge.kind === "rw").length;
  const kind =
    anti > 1
      ? "cycle-with-anti-dependencies"
      : anti === 1
        ? "cycle-with-one-anti-dependency"
        : cycle.some(({ edge }) => edge.kind === "wr")
          ? "cycle-of-information"
          : "cycle-of-writes";
  const name = (id: number) => describe(transactions.get(id) as Transaction);
  const told = cycle.map(({ from, edge }) => `${name(from)} -${edge.kind} on ${edge.key}→ ${name(edge.to)}`);
  return { kind, message: told.join("; ") };
}

function describe({ id, client, steps }: Transaction): string {
  const told = steps.map((step) =>
    step.kind === "append" ? `+${nameOf(step.key, step.value)}` : `${step.key}?${step.values.length}`,
  );
  return `T${id} of ${client} (${told.join(" ")})`;
}
