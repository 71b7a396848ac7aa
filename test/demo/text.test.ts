import { describe, expect, test } from "vitest";
import { bytes, cutTo, padTo, plainLength, sparkline } from "../../demo/text.ts";

const green = (text: string) => `\u001b[32m${text}\u001b[39m`;

describe("text on a terminal", () => {
  test("colours take no room", () => {
    expect(plainLength(green("four"))).toBe(4);
    expect(padTo(green("four"), 6)).toBe(`${green("four")}  `);
  });

  test("a line that is too long is cut at the width, with its colours ended", () => {
    expect(cutTo("abcdef", 6)).toBe("abcdef");
    expect(plainLength(cutTo("abcdefg", 6))).toBe(6);
    const cut = cutTo(`ab${green("cdefgh")}ij`, 5);
    expect(plainLength(cut)).toBe(5);
    expect(cut.endsWith("…\u001b[0m")).toBe(true);
  });

  test("a sparkline goes from nothing to the largest value", () => {
    expect(sparkline([0, 1, 50, 100])).toBe(" ▁▅█");
    expect(sparkline([0, 0])).toBe("  ");
    expect(sparkline([])).toBe("");
  });

  test("bytes are told in the unit that fits", () => {
    expect([0n, 1023n, 2048n, 5n * 1024n * 1024n].map(bytes)).toEqual(["0 B", "1023 B", "2 kB", "5.0 MB"]);
  });
});
