import { describe, expect, it } from "vitest";
import { readBackupServerConfig } from "../../src/config/backup-server.ts";
import { readSitterConfig } from "../../src/config/read-sitter.ts";
import { readSnapshotterConfig } from "../../src/config/snapshotter.ts";

const sitter = (storage: object) => ({
  ip: "10.0.0.11",
  zoneId: "peer1",
  shardPath: "/manatee/1",
  zkCfg: { connStr: "10.0.0.1:2181" },
  postgres: { dataDir: "/srv/manatee/shard/pg" },
  storage: { dataset: "shard/pg", ...storage },
});

const section = (storage: object) => {
  const read = readSitterConfig({ json: JSON.stringify(sitter(storage)), env: {}, file: "f" });
  return read.kind === "invalid" ? read.problems.map(({ key }) => key) : read.config.storage;
};

const snapshotter = (place: object) =>
  readSnapshotterConfig({ json: JSON.stringify({ dataset: "shard/pg", ...place }), file: "f" });

const backupServer = (place: object) =>
  readBackupServerConfig({
    json: JSON.stringify({
      backupSenderCfg: { dataset: "shard/pg", ...place },
      backupServerCfg: { port: 12345, openToAll: true },
    }),
    file: "f",
  });

describe("storage in the configuration", () => {
  it.each(["btrfs", "directory"])("of the kind %s has a root, and ZFS has none", (kind) => {
    expect(section({ kind, root: "/srv/manatee" })).toMatchObject({ kind, root: "/srv/manatee", dataset: "shard/pg" });
    expect(section({ kind })).toEqual(["storage.root"]);
    expect(section({ kind: "zfs" })).toMatchObject({ kind: "zfs", root: "" });
    expect(section({ kind: "zfs", root: "/srv/manatee" })).toEqual(["storage.root"]);
  });

  it("of plain folders has no program, and other kinds there are none", () => {
    expect(section({ kind: "directory", root: "/srv/manatee", program: "/usr/bin/cp" })).toEqual(["storage.program"]);
    expect(section({ kind: "folders", root: "/srv/manatee" })).toEqual(["storage.kind"]);
  });

  it("is one, also beside the sitter", () => {
    const [one, both] = [
      { directoryRoot: "/srv/manatee" },
      { directoryRoot: "/srv/manatee", btrfsRoot: "/srv/manatee" },
    ];
    expect(snapshotter(one)).toMatchObject({ kind: "valid", config: { ...one, btrfsRoot: undefined } });
    expect(snapshotter(both)).toMatchObject({ kind: "invalid", problems: [{ key: "directoryRoot" }] });
    expect(backupServer(one)).toMatchObject({ kind: "valid", config: { ...one, btrfsRoot: undefined } });
    expect(backupServer(both)).toMatchObject({ kind: "invalid", problems: [{ key: "backupSenderCfg.directoryRoot" }] });
  });
});
