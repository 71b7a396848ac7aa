// With MANATEE_UPDATE_DOCS=1 the tables are written anew instead of compared.

import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { keyTable, sitterKeys } from "../../src/config/key-table.ts";
import { backupServerSchema } from "../../src/config/backup-server.ts";
import { snapshotterSchema } from "../../src/config/snapshotter.ts";
import { keysOf } from "../../src/config/schema.ts";

const file = new URL("../../docs/configuration.md", import.meta.url);

/** What stands between the marks `<!-- keys: NAME -->` and `<!-- end -->`. */
function tableIn(name: string): string | undefined {
  return between(name).exec(readFileSync(file, "utf8"))?.[2];
}

function between(name: string): RegExp {
  return new RegExp(`(<!-- keys: ${name} -->\n)([\\s\\S]*?)\n?(<!-- end -->)`);
}

describe("docs/configuration.md", () => {
  it.each([
    ["sitter", sitterKeys()],
    ["snapshotter", keysOf(snapshotterSchema)],
    ["backupserver", keysOf(backupServerSchema)],
  ])("lists every key of the %s's file with its default", (name, keys) => {
    if (process.env["MANATEE_UPDATE_DOCS"] === "1")
      writeFileSync(
        file,
        readFileSync(file, "utf8").replace(between(name), (_, begin, __, end) => `${begin}${keyTable(keys)}\n${end}`),
      );
    expect(tableIn(name)).toBe(keyTable(keys));
  });

  it("says of every key what it is", () => {
    expect(sitterKeys().length).toBeGreaterThan(60);
    expect(sitterKeys().filter(({ description }) => description === "")).toEqual([]);
  });
});
