import { expect, it } from "vitest";
import { type Episode, episodes, KINDS } from "../../chaos/schedule.ts";

function some(seed: number, count: number): readonly Episode[] {
  const source = episodes(seed);
  return Array.from({ length: count }, () => source.next().value);
}

it("draws the same episodes from the same seed, and others from another", () => {
  expect(some(7, 20)).toEqual(some(7, 20));
  expect(some(7, 20)).not.toEqual(some(8, 20));
});

it("draws every kind of fault for every role, several at once and one alone", () => {
  const drawn = some(1, 2000);
  const faults = drawn.flatMap(({ faults: of }) => of);
  expect(new Set(faults.map(({ kind, victim }) => `${kind} ${victim}`)).size).toBe(KINDS.length * 3);
  expect(new Set(drawn.map(({ faults: of }) => of.length))).toEqual(new Set([1, 2, 3]));
  for (const { victim, other, atMs, forMs } of faults) {
    expect(other).not.toBe(victim);
    expect(atMs).toBeLessThanOrEqual(6_000);
    expect(forMs).toBeGreaterThanOrEqual(100);
    expect(forMs).toBeLessThanOrEqual(20_000);
  }
});

it("keeps to the kinds that are asked for", () => {
  const source = episodes(3, ["kill-store"]);
  for (let i = 0; i < 20; i++) expect(source.next().value.faults.every(({ kind }) => kind === "kill-store")).toBe(true);
});
