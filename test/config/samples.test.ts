import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readBackupServerConfig, readSnapshotterConfig } from "../../src/config/later-processes.ts";
import { readSitterConfig } from "../../src/config/read-sitter.ts";

function sample(name: string): { json: string; file: string } {
  return { json: readFileSync(new URL(`../../etc/${name}`, import.meta.url), "utf8"), file: name };
}

describe("the samples in etc/", () => {
  it("holds a sitter's configuration without a warning", () => {
    expect(readSitterConfig({ ...sample("manatee-sitter.json.in"), env: {} })).toMatchObject({
      kind: "valid",
      warnings: [],
    });
  });

  it("holds a snapshotter's configuration", () => {
    expect(readSnapshotterConfig(sample("manatee-snapshotter.json.in"))).toMatchObject({
      kind: "valid",
      config: { dataset: "data/manatee", pollInterval: 3_600_000, snapshotNumber: 50 },
    });
  });

  it("holds a backup server's configuration", () => {
    expect(readBackupServerConfig(sample("manatee-backupserver.json.in"))).toMatchObject({
      kind: "valid",
      config: { backupServerCfg: { port: 12345 } },
    });
  });

  it("suggests keys in these files, too", () => {
    expect(readSnapshotterConfig({ json: '{"dataset": "x", "snapshotnumber": 3}', file: "f" })).toMatchObject({
      problems: [{ key: "snapshotnumber", hint: "did you mean snapshotNumber?" }],
    });
  });
});
