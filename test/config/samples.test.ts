import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { readBackupServerConfig } from "../../src/config/backup-server.ts";
import { readSnapshotterConfig } from "../../src/config/snapshotter.ts";
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

  it("becomes another peer's configuration by the README's line of sed, as it stands there", () => {
    const root = fileURLToPath(new URL("../../", import.meta.url));
    const readme = readFileSync(`${root}README.md`, "utf8");
    const [line, command = ""] =
      /^(sed .* etc\/manatee-sitter\.json\.in) > \/etc\/manatee\/sitter\.json$/m.exec(readme) ?? [];
    expect(line).toBeDefined();
    const json = execFileSync("sh", ["-c", command], { cwd: root, encoding: "utf8" });
    expect(json).not.toContain("10.0.0.11");
    expect(readSitterConfig({ json, file: "sitter.json", env: {} })).toMatchObject({
      kind: "valid",
      warnings: [],
      config: {
        self: {
          id: "10.0.0.12:5432:12345",
          ip: "10.0.0.12",
          zoneId: "peer2",
          pgUrl: "tcp://postgres@10.0.0.12:5432/postgres",
        },
        store: { kind: "zookeeper", connectString: "10.0.0.1:2181" },
      },
    });
  });

  it("holds a snapshotter's configuration", () => {
    expect(readSnapshotterConfig(sample("manatee-snapshotter.json.in"))).toMatchObject({
      kind: "valid",
      config: {
        dataset: "data/manatee",
        intervalMs: 3_600_000,
        retention: { newest: 50, hourly: 24, daily: 7, weekly: 4 },
      },
    });
  });

  it("holds a backup server's configuration", () => {
    expect(readBackupServerConfig(sample("manatee-backupserver.json.in"))).toMatchObject({
      kind: "valid",
      config: { dataset: "data/manatee", port: 12345, sitter: { host: "10.0.0.11", port: 5433 }, openToAll: false },
    });
  });

  it("lets the original's backup server's file be told how to stay as open as it was", () => {
    const original = (more: object) => ({
      json: JSON.stringify({ backupSenderCfg: { dataset: "x" }, backupServerCfg: { port: 12345, ...more } }),
      file: "f",
    });
    expect(readBackupServerConfig(original({}))).toMatchObject({
      problems: [{ key: "backupServerCfg.credentialFile", message: expect.stringContaining("openToAll") as string }],
    });
    expect(readBackupServerConfig(original({ openToAll: true }))).toMatchObject({
      kind: "valid",
      config: { openToAll: true, credentialFile: undefined },
    });
  });

  it("suggests keys in these files, too", () => {
    expect(readSnapshotterConfig({ json: '{"dataset": "x", "snapshotnumber": 3}', file: "f" })).toMatchObject({
      problems: [{ key: "snapshotnumber", hint: "did you mean snapshotNumber?" }],
    });
  });
});
