import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { encodeFacts, encodeVerdict, verdictOf } from "../../src/snapshots/facts.ts";
import { type Candidate, isOurs, judgeRetention, nextToThin, type Reason } from "../../src/snapshots/retention.ts";

const HOUR_MS = 3_600_000;
const START_MS = Date.UTC(2026, 0, 5);
const POLICY = { newest: 3, hourly: 4, daily: 3, weekly: 2 };

function snapshot(
  hours: number,
  { verdict, holds = [], at = hours }: { verdict?: boolean; holds?: string[]; at?: number } = {},
): Candidate {
  const createdWallMs = START_MS + hours * HOUR_MS;
  return {
    name: String(createdWallMs),
    createdWallMs,
    holds,
    properties: {
      ...encodeFacts({
        timeline: 1,
        lsn: lsn(BigInt(Math.floor(at) + 1)),
        systemIdentifier: "1",
        role: "primary",
        generation: 1,
        why: "periodic",
      }),
      ...(verdict === undefined ? {} : encodeVerdict({ passed: verdict, wallMs: createdWallMs, text: "x" })),
    },
  };
}

const foreign: Candidate = { name: "before-upgrade", createdWallMs: START_MS, properties: {}, holds: [] };

const anySnapshots: fc.Arbitrary<Candidate[]> = fc
  .array(
    fc.record({
      gap: fc.integer({ min: 0, max: 60 }),
      verdict: fc.constantFrom(undefined, undefined, true, false),
      held: fc.boolean(),
      kind: fc.constantFrom("ours", "ours", "ours", "foreign", "without facts"),
    }),
    { maxLength: 60 },
  )
  .map((steps) => {
    let hours = 0;
    return steps.map(({ gap, verdict, held, kind }, i) => {
      hours += gap / 4;
      const made = snapshot(hours, { ...(verdict !== undefined && { verdict }), holds: held && gap > 50 ? ["x"] : [] });
      const unique = { ...made, name: String(Number(made.name) + i) };
      if (kind === "foreign") return { ...unique, name: `mine-${i}` };
      return kind === "ours" ? unique : { ...unique, properties: { "manatee:why": "periodic" } };
    });
  });

const anyPolicy = fc.record({
  newest: fc.integer({ min: 1, max: 10 }),
  hourly: fc.nat(30),
  daily: fc.nat(10),
  weekly: fc.nat(5),
});

describe("retention", () => {
  it("keeps the newest, and of hours, days and weeks the newest one", () => {
    const all = Array.from({ length: 24 * 21 }, (_, hour) => snapshot(hour));
    const { kept, superfluous } = judgeRetention(all, POLICY, undefined);
    const of = (reason: Reason) =>
      kept.filter((one) => one.reason === reason).map((one) => (one.snapshot.createdWallMs - START_MS) / HOUR_MS);
    expect(of("newest good")).toEqual([503]);
    expect(of("weekly")).toEqual([24 * 14 - 1]);
    expect(of("daily")).toEqual([24 * 19 - 1, 24 * 20 - 1]);
    expect(of("hourly")).toEqual([500, 501, 502]);
    expect(kept.length + superfluous.length).toBe(all.length);
  });

  it("goes by the order in which they were made, whatever the clock says now or said then", () => {
    const future = { ...snapshot(10 ** 6), name: "4769000000000" };
    const { kept } = judgeRetention([snapshot(0), future, snapshot(1), snapshot(2)], POLICY, undefined);
    expect(kept).toHaveLength(4);
    expect(kept.at(-1)?.reason).toBe("newest good");
  });

  it("keeps what a peer that forked at the beginning of this generation goes back to", () => {
    const all = Array.from({ length: 100 }, (_, hour) => snapshot(hour / 60, { at: hour }));
    const policy = { newest: 2, hourly: 0, daily: 0, weekly: 0 };
    const { kept } = judgeRetention(all, policy, { timeline: 1, lsn: lsn(41n) });
    expect(kept.map(({ reason }) => reason)).toEqual(["before the generation", "newest", "newest good"]);
    expect(kept[0]?.snapshot).toBe(all[40]);
  });

  it("never lets go what is somebody else's, held, failed, the newest good or the newest verified one", () => {
    fc.assert(
      fc.property(anySnapshots, anyPolicy, (snapshots, policy) => {
        const { superfluous } = judgeRetention(snapshots, policy, undefined);
        for (const gone of superfluous) {
          expect(isOurs(gone)).toBe(true);
          expect(gone.holds).toEqual([]);
          expect(verdictOf(gone.properties)?.passed).not.toBe(false);
        }
        const ours = snapshots.filter(isOurs);
        const verified = ours.findLast(({ properties }) => verdictOf(properties)?.passed);
        for (const needed of [ours.at(-1), verified]) if (needed) expect(superfluous).not.toContain(needed);
      }),
    );
  });

  it("is bounded, is whole, and finds nothing more to remove when it was done", () => {
    fc.assert(
      fc.property(anySnapshots, anyPolicy, (snapshots, policy) => {
        const { kept, superfluous } = judgeRetention(snapshots, policy, undefined);
        expect(new Set([...kept.map((one) => one.snapshot), ...superfluous]).size).toBe(snapshots.length);
        const counted = kept.filter(({ reason }) => !["foreign", "held", "failed"].includes(reason));
        expect(counted.length).toBeLessThanOrEqual(policy.newest + policy.hourly + policy.daily + policy.weekly + 3);
        const again = judgeRetention(
          kept.map((one) => one.snapshot),
          policy,
          undefined,
        );
        expect(again.superfluous).toEqual([]);
      }),
    );
  });

  it("thins the densest class first, and stops at what must stay", () => {
    fc.assert(
      fc.property(anySnapshots, anyPolicy, (snapshots, policy) => {
        let left = [...snapshots];
        for (let i = 0; i <= snapshots.length; i++) {
          const victim = nextToThin(judgeRetention(left, policy, undefined).kept);
          if (!victim) break;
          expect(isOurs(victim)).toBe(true);
          left = left.filter((one) => one !== victim);
        }
        const { kept } = judgeRetention(left, policy, undefined);
        expect(nextToThin(kept)).toBeUndefined();
        const good = snapshots.filter(isOurs).findLast((one) => verdictOf(one.properties)?.passed !== false);
        if (good && Object.keys(good.properties).length > 1) expect(left).toContain(good);
      }),
    );
    const { kept } = judgeRetention(
      Array.from({ length: 24 * 21 }, (_, hour) => snapshot(hour)),
      POLICY,
      undefined,
    );
    expect(nextToThin(kept)?.createdWallMs).toBe(START_MS + 500 * HOUR_MS);
  });

  it("calls nobody else's its own", () => {
    expect(isOurs(foreign)).toBe(false);
    expect(isOurs({ ...snapshot(1), properties: {} })).toBe(false);
    expect(isOurs({ ...snapshot(1), name: "fork-1" })).toBe(false);
    expect(isOurs(snapshot(1))).toBe(true);
  });
});
