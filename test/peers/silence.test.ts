import { describe, expect, it } from "vitest";
import { SilenceLimit } from "../../src/peers/silence.ts";

const OPTIONS = { beatMs: 100, minMs: 500, maxMs: 3_000, deviations: 8 };

describe("how long silence may last (D2)", () => {
  it("is the floor on an even link", () => {
    const limit = new SilenceLimit(OPTIONS);
    for (let n = 0; n < 1_000; n++) limit.heard(100, 1);
    expect(limit.limitMs).toBe(500);
  });

  it("grows with the deviation of the link, and with the way there and back", () => {
    const uneven = new SilenceLimit(OPTIONS);
    const far = new SilenceLimit(OPTIONS);
    for (let n = 0; n < 1_000; n++) {
      uneven.heard(n % 2 ? 10 : 190, 1);
      far.heard(100, 300);
    }
    expect(uneven.limitMs).toBeGreaterThan(750);
    expect(uneven.limitMs).toBeLessThan(900);
    expect(far.limitMs).toBe(700);
  });

  it("never passes the ceiling, and forgets", () => {
    const limit = new SilenceLimit(OPTIONS);
    for (let n = 0; n < 200; n++) limit.heard(n % 2 ? 10 : 5_000, 2_000);
    expect(limit.limitMs).toBe(3_000);
    for (let n = 0; n < 2_000; n++) limit.heard(100, 1);
    expect(limit.limitMs).toBe(500);
  });

  it("is not drawn out much by one outage that ended", () => {
    const limit = new SilenceLimit(OPTIONS);
    for (let n = 0; n < 1_000; n++) limit.heard(100, 1);
    limit.heard(60_000, 60_000);
    expect(limit.limitMs).toBeLessThan(1_200);
    for (let n = 0; n < 300; n++) limit.heard(100, 1);
    expect(limit.limitMs).toBe(500);
  });
});
