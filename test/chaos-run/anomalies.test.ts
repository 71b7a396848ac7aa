// The judge of the list transactions, itself judged: histories that must be found, and some that must not.

import { describe, expect, it } from "vitest";
import { anomaliesOf, type Lists, type Step, type Transaction } from "../../chaos/anomalies.ts";

const append = (key: number, value: number): Step => ({ kind: "append", key, value });
const read = (key: number, ...values: number[]): Step => ({ kind: "read", key, values });

function history(...given: readonly (readonly [Transaction["outcome"], ...Step[]])[]): readonly Transaction[] {
  return given.map(([outcome, ...steps], i) => ({ id: i + 1, client: `l${i + 1}`, outcome, steps }));
}

function lists(entries: Readonly<Record<number, readonly number[]>>): Lists {
  return new Map(Object.entries(entries).map(([key, values]) => [Number(key), values]));
}

const kinds = (transactions: readonly Transaction[], finals: Lists) =>
  anomaliesOf(transactions, finals).map(({ kind }) => kind);

describe("finds nothing where nothing is wrong", () => {
  it("in transactions one after the other", () => {
    const transactions = history(
      ["ok", append(1, 1), read(1, 1), append(2, 1)],
      ["ok", read(1, 1), read(2, 1), append(1, 2)],
      ["fail", append(1, 3), read(1, 1, 2, 3)],
      ["ok", read(1, 1, 2), read(2, 1), read(3)],
    );
    expect(kinds(transactions, lists({ 1: [1, 2], 2: [1] }))).toEqual([]);
  });

  it("in an outcome that is unknown, whether it took place or not", () => {
    const transactions = history(["unknown", append(1, 1), append(2, 1)], ["ok", read(3)]);
    expect(kinds(transactions, lists({}))).toEqual([]);
    expect(kinds(transactions, lists({ 1: [1], 2: [1] }))).toEqual([]);
  });

  it("in a reader that saw the first of two writers and not the second", () => {
    const transactions = history(["ok", append(1, 1)], ["ok", append(1, 2), append(2, 1)], ["ok", read(1, 1), read(2)]);
    expect(kinds(transactions, lists({ 1: [1, 2], 2: [1] }))).toEqual([]);
  });
});

describe("finds", () => {
  it("an acknowledged append that is gone", () => {
    expect(kinds(history(["ok", append(1, 1)], ["ok", append(1, 2)]), lists({ 1: [2] }))).toEqual(["append-lost"]);
  });

  it("half of a transaction, also where its outcome was unknown", () => {
    expect(kinds(history(["unknown", append(1, 1), append(2, 1)]), lists({ 1: [1] }))).toEqual(["append-lost"]);
  });

  it("an append twice, one that nobody made, and one that was refused", () => {
    expect(kinds(history(["ok", append(1, 1)]), lists({ 1: [1, 1] }))).toContain("append-twice");
    expect(kinds(history(["ok", append(1, 1)]), lists({ 1: [1, 9] }))).toEqual(["append-from-nowhere"]);
    expect(kinds(history(["fail", append(1, 1)]), lists({ 1: [1] }))).toEqual(["failed-append-present"]);
  });

  it("a value that somebody saw and that is gone, also where the reader did not commit", () => {
    const transactions = history(["unknown", append(1, 1)], ["fail", read(1, 1)]);
    expect(kinds(transactions, lists({}))).toEqual(["read-not-in-the-end"]);
  });

  it("values that were seen in another order than that of the end", () => {
    const transactions = history(["ok", append(1, 1)], ["ok", append(1, 2)], ["ok", read(1, 2)]);
    expect(kinds(transactions, lists({ 1: [1, 2] }))).toContain("read-not-in-the-end");
  });

  it("a read in the middle of another transaction", () => {
    const transactions = history(["ok", append(1, 1), append(1, 2)], ["ok", read(1, 1)]);
    expect(kinds(transactions, lists({ 1: [1, 2] }))).toContain("read-of-half-a-transaction");
  });

  it("a transaction that does not see its own append", () => {
    expect(kinds(history(["ok", append(1, 1), read(1)]), lists({ 1: [1] }))).toEqual(["own-append-not-read"]);
  });

  it("two transactions that overwrite each other crosswise", () => {
    const transactions = history(["ok", append(1, 1), append(2, 2)], ["ok", append(1, 2), append(2, 1)]);
    expect(kinds(transactions, lists({ 1: [1, 2], 2: [1, 2] }))).toEqual(["cycle-of-writes"]);
  });

  it("two transactions that saw each other", () => {
    const transactions = history(["ok", append(1, 1), read(2, 1)], ["ok", append(2, 1), read(1, 1)]);
    expect(kinds(transactions, lists({ 1: [1], 2: [1] }))).toEqual(["cycle-of-information"]);
  });

  it("a transaction that sees one half of another", () => {
    const transactions = history(["ok", append(1, 1), append(2, 1)], ["ok", read(1, 1), read(2)]);
    expect(kinds(transactions, lists({ 1: [1], 2: [1] }))).toEqual(["cycle-with-one-anti-dependency"]);
  });

  it("a write skew: each read what the other had not written yet", () => {
    const transactions = history(["ok", read(1), append(2, 1)], ["ok", read(2), append(1, 1)]);
    expect(kinds(transactions, lists({ 1: [1], 2: [1] }))).toEqual(["cycle-with-anti-dependencies"]);
  });

  it("a cycle over many, told by its shortest way", () => {
    const count = 2000;
    const transactions = history(
      ...Array.from({ length: count }, (_, i): ["ok", Step, Step] => [
        "ok",
        i === 0 ? read(count, 1) : read(i, 1),
        append(i + 1, 1),
      ]),
    );
    const finals = lists(Object.fromEntries(Array.from({ length: count }, (_, i) => [i + 1, [1]])));
    const [anomaly, ...more] = anomaliesOf(transactions, finals);
    expect(more).toEqual([]);
    expect(anomaly?.kind).toBe("cycle-of-information");
    expect(anomaly?.message.split(";")).toHaveLength(count);
  });
});
