import { describe, expect, it } from "vitest";
import { formatDuration, parseDuration } from "../../src/base/duration.ts";
import { type CloneFacts, cloneHold, cloneOfHold, decodeClone, encodeClone } from "../../src/snapshots/clones.ts";
import { isOurs, judgeRetention } from "../../src/snapshots/retention.ts";

const FACTS: CloneFacts = {
  port: 15432,
  snapshot: "1760000000000",
  takenWallMs: 1_760_000_000_000,
  madeWallMs: 1_760_000_100_000,
  untilWallMs: 1_760_003_700_000,
};

describe("what stands with a clone", () => {
  it("is read as it was written", () => {
    expect(decodeClone(encodeClone(FACTS))).toEqual(FACTS);
    expect(decodeClone({ ...encodeClone(FACTS), "manatee:other": "x" })).toEqual(FACTS);
  });

  it("is nothing where a part of it is missing or is not ours: such a dataset is nobody's to remove", () => {
    expect(decodeClone({})).toBeUndefined();
    for (const name of Object.keys(encodeClone(FACTS))) {
      const { [name]: _, ...rest } = encodeClone(FACTS);
      expect(decodeClone(rest), name).toBeUndefined();
      expect(decodeClone({ ...rest, [name]: "" }), name).toBeUndefined();
    }
    expect(decodeClone({ ...encodeClone(FACTS), "manatee:clone-until": "soon" })).toBeUndefined();
    expect(decodeClone({ ...encodeClone(FACTS), "manatee:clone-until": "-1" })).toBeUndefined();
  });

  it("holds its snapshot by a tag that names it, and retention leaves that one", () => {
    expect(cloneOfHold(cloneHold("15432"))).toBe("15432");
    expect(cloneOfHold("manatee-sitter")).toBeUndefined();
    const snapshots = [1, 2, 3].map((n) => ({
      name: `176000000000${n}`,
      createdWallMs: n,
      properties: { "manatee:why": "periodic" },
      holds: n === 1 ? [cloneHold("15432")] : [],
    }));
    expect(snapshots.every(isOurs)).toBe(true);
    const { kept, superfluous } = judgeRetention(snapshots, { newest: 1, hourly: 0, daily: 0, weekly: 0 }, undefined);
    expect(kept.map(({ snapshot, reason }) => `${snapshot.createdWallMs} ${reason}`)).toEqual(["1 held", "3 newest"]);
    expect(superfluous.map(({ createdWallMs }) => createdWallMs)).toEqual([2]);
  });
});

describe("durations", () => {
  it("are read with one unit, and written in the largest of which there are two", () => {
    expect(["45s", "30m", "8h", "3d", "0s"].map(parseDuration)).toEqual([
      45_000, 1_800_000, 28_800_000, 259_200_000, 0,
    ]);
    expect(["", "8", "h", "8 h", "-8h", "1.5h", "8H", "8h30m", "1234567890s"].map(parseDuration)).toEqual(
      Array.from({ length: 9 }, () => undefined),
    );
    expect([-5, 999, 119_999, 120_000, 7_200_000, 172_800_000].map(formatDuration)).toEqual([
      "0s",
      "0s",
      "119s",
      "2m",
      "2h",
      "2d",
    ]);
  });
});
