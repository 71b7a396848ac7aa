// Who keeps the shard's history bounded, and how often.

import { expect, it } from "vitest";
import type { Observation } from "../../src/cluster/observation.ts";
import type { ShardStore } from "../../src/shard/port.ts";
import { HistoryTrimmer } from "../../src/sitter/history-trimmer.ts";
import type { World } from "../../src/world/port.ts";

const TEN_MINUTES_MS = 600_000;

function fixture() {
  const asked: number[] = [];
  const store = {
    trimHistory({ keep }: { keep: number }) {
      asked.push(keep);
      return Promise.resolve(3);
    },
  } as unknown as ShardStore;
  const told: string[] = [];
  const world = { log: { debug: (text: string) => told.push(text) } } as unknown as World;
  const trimmer = new HistoryTrimmer({ keep: 500, world });
  const at = (now: number, version: number, primary = "me"): Observation =>
    ({
      now,
      self: { id: "me" },
      store: { shard: { kind: "document", version, state: { primary: { id: primary } } } },
    }) as unknown as Observation;
  return { asked, store, told, trimmer, at };
}

it("is the primary, where the state has changed, and once in ten minutes at most", async () => {
  const { asked, store, told, trimmer, at } = fixture();
  trimmer.follow(at(0, 7), store);
  expect(asked).toEqual([500]);
  trimmer.follow(at(1, 8), store);
  trimmer.follow(at(TEN_MINUTES_MS - 1, 8), store);
  expect(asked).toHaveLength(1);
  trimmer.follow(at(TEN_MINUTES_MS, 8), store);
  expect(asked).toHaveLength(2);
  trimmer.follow(at(5 * TEN_MINUTES_MS, 8), store);
  expect(asked).toHaveLength(2);
  await Promise.resolve();
  expect(told).toEqual(["history trimmed", "history trimmed"]);
});

it("is nobody else, and nobody without the store or a state", () => {
  const { asked, store, trimmer, at } = fixture();
  trimmer.follow(at(0, 7, "another"), store);
  trimmer.follow(at(0, 7), undefined);
  trimmer.follow({ ...at(0, 7), store: { shard: { kind: "absent" } } } as unknown as Observation, store);
  expect(asked).toEqual([]);
});
