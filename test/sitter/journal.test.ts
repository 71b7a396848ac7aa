import { expect, it } from "vitest";
import { Journal } from "../../src/sitter/journal.ts";
import { quietLog } from "../support/backup.ts";

it("keeps the last lines, whatever their level, and tells those of a time", () => {
  let wallMs = 1_000;
  const journal = new Journal({ now: () => 0, wall: () => wallMs });
  const told: string[] = [];
  const log = journal.keep({ ...quietLog, info: (message) => void told.push(message), child: () => quietLog });
  log.trace("not kept");
  log.debug("seen", { peer: "a" });
  wallMs = 2_000;
  log.info("decided");
  log.child({ of: "a part" }).warn("from a part");
  expect(journal.entries({ fromWallMs: 0, toWallMs: 1_999 })).toEqual([
    { wallMs: 1_000, message: "seen", fields: { peer: "a" } },
  ]);
  expect(journal.entries({ fromWallMs: 2_000, toWallMs: 2_000 }).map(({ message }) => message)).toEqual([
    "decided",
    "from a part",
  ]);
  expect(told).toEqual(["decided"]);
  for (let n = 0; n < 5_000; n++) log.debug(String(n));
  const all = journal.entries({ fromWallMs: 0, toWallMs: 9_000 });
  expect(all.at(-1)?.message).toBe("4999");
  expect(all.length).toBeLessThan(5_000);
});
