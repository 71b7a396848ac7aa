// The book-keeping of watches, against a store that is played by hand.

import { describe, expect, test } from "vitest";
import { EVENT } from "../../../src/coordination/zookeeper/messages.ts";
import { WatchTable } from "../../../src/coordination/zookeeper/watches.ts";

interface Asked {
  readonly what: string;
  readonly settle: (there: boolean | undefined) => void;
}

function playedStore() {
  const asked: Asked[] = [];
  let deferred: (() => void)[] = [];
  const table = new WatchTable({
    setExists: (path, settle) => asked.push({ what: `exists ${path}`, settle }),
    setChildren: (path, settle) => asked.push({ what: `children ${path}`, settle }),
    defer: (callback) => deferred.push(callback),
  });
  return {
    table,
    /** What was asked since the last call; all of it is answered. */
    answer: (there: boolean | undefined): string[] => {
      const now = asked.splice(0);
      for (const { settle } of now) settle(there);
      return now.map(({ what }) => what);
    },
    settleDeferred: (): void => {
      const now = deferred;
      deferred = [];
      for (const callback of now) callback();
    },
  };
}

describe("watches", () => {
  test("on data are set once for all listeners, and are set again before the listeners are called", () => {
    const { table, answer, settleDeferred } = playedStore();
    const calls: string[] = [];
    table.add("/a", "data", () => calls.push("first"));
    table.add("/a", "data", () => calls.push("second"));
    expect(answer(true)).toEqual(["exists /a"]);
    table.take({ type: EVENT.dataChanged, path: "/a" });
    settleDeferred();
    expect(calls).toEqual([]);
    expect(answer(true)).toEqual(["exists /a"]);
    settleDeferred();
    expect(calls).toEqual(["first", "second"]);
  });

  test("on children of a node that isn't there wait for its creation, and are then set", () => {
    const { table, answer, settleDeferred } = playedStore();
    let calls = 0;
    table.add("/a", "children", () => calls++);
    expect(answer(false)).toEqual(["exists /a", "children /a"]);
    table.take({ type: EVENT.created, path: "/a" });
    expect(answer(true)).toEqual(["exists /a", "children /a"]);
    settleDeferred();
    expect(calls).toBe(1);
    table.take({ type: EVENT.childrenChanged, path: "/a" });
    expect(answer(true)).toEqual(["children /a"]);
    table.take({ type: EVENT.deleted, path: "/a" });
    expect(answer(false)).toEqual(["exists /a", "children /a"]);
    settleDeferred();
    expect(calls).toBe(2);
  });

  test("many events before a listener's turn are one call, and none after it was stopped", () => {
    const { table, answer, settleDeferred } = playedStore();
    let calls = 0;
    const stop = table.add("/a", "data", () => calls++);
    for (let i = 0; i < 10; i++) {
      table.take({ type: EVENT.dataChanged, path: "/a" });
      answer(true);
    }
    settleDeferred();
    expect(calls).toBe(1);
    table.take({ type: EVENT.dataChanged, path: "/a" });
    answer(true);
    stop();
    settleDeferred();
    expect([calls, table.size]).toEqual([1, 0]);
  });

  test("a change of data concerns no listener of children, but is watched for again", () => {
    const { table, answer, settleDeferred } = playedStore();
    let calls = 0;
    table.add("/a", "children", () => calls++);
    answer(true);
    table.take({ type: EVENT.dataChanged, path: "/a" });
    expect(answer(true)).toEqual(["exists /a"]);
    settleDeferred();
    expect(calls).toBe(0);
  });

  test("a new connection is told of what is known in lists, and asked for the rest; everybody is called", () => {
    const { table, answer, settleDeferred } = playedStore();
    const calls: string[] = [];
    table.add("/there", "data", () => calls.push("there"));
    table.add("/parent", "children", () => calls.push("parent"));
    expect(answer(true)).toHaveLength(3);
    table.add("/gone", "data", () => calls.push("gone"));
    answer(false);
    table.add("/unknown", "data", () => calls.push("unknown"));
    answer(undefined);
    expect(table.takeUp()).toEqual([{ data: ["/there", "/parent"], exists: ["/gone"], children: ["/parent"] }]);
    table.rearm();
    expect(answer(true)).toEqual(["exists /unknown"]);
    settleDeferred();
    expect(calls.sort()).toEqual(["gone", "parent", "there", "unknown"]);
  });

  test("an answer of a former connection says nothing about the present one", () => {
    const asked: Asked[] = [];
    const table = new WatchTable({
      setExists: (path, settle) => asked.push({ what: path, settle }),
      setChildren: () => {},
      defer: () => {},
    });
    table.add("/a", "data", () => {});
    const [former] = asked.splice(0);
    table.takeUp();
    table.rearm();
    former?.settle(true);
    asked.splice(0)[0]?.settle(false);
    expect(table.takeUp()).toEqual([{ data: [], exists: ["/a"], children: [] }]);
  });

  test("lists are cut so that each fits into a request", () => {
    const { table, answer } = playedStore();
    const paths = Array.from({ length: 3000 }, (_, i) => `/${"x".repeat(100)}${i}`);
    for (const path of paths) table.add(path, "data", () => {});
    answer(true);
    const lists = table.takeUp();
    expect(lists.length).toBeGreaterThan(3);
    expect(lists.flatMap(({ data }) => data)).toEqual(paths);
    for (const { data } of lists) expect(data.reduce((sum, path) => sum + 4 + path.length, 0)).toBeLessThan(100_000);
  });
});
