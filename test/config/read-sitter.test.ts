import { describe, expect, it } from "vitest";
import { readSitterConfig, type SitterConfigResult } from "../../src/config/read-sitter.ts";
import type { SitterConfig } from "../../src/config/types.ts";

const least = {
  ip: "10.0.0.11",
  zoneId: "peer1",
  shardPath: "/manatee/1",
  zkCfg: { connStr: "10.0.0.1:2181" },
  postgres: { dataDir: "/var/lib/manatee/data" },
};

function read(value: unknown, env: Record<string, string> = {}): SitterConfigResult {
  return readSitterConfig({
    json: typeof value === "string" ? value : JSON.stringify(value),
    env,
    file: "sitter.json",
  });
}

function valid(value: unknown, env: Record<string, string> = {}): SitterConfig {
  const result = read(value, env);
  if (result.kind === "invalid") throw new Error(JSON.stringify(result.problems));
  return result.config;
}

function problems(value: unknown, env: Record<string, string> = {}): string[] {
  const result = read(value, env);
  if (result.kind === "valid") throw new Error("accepted");
  return result.problems.map(({ key, message, hint }) => `${key}: ${message} -> ${hint}`);
}

describe("the sitter's configuration", () => {
  it("takes limits of silence that fit the heartbeat and each other, and no others", () => {
    const peers = (given: object) =>
      readSitterConfig({ json: JSON.stringify({ ...least, peers: given }), env: {}, file: "f" });
    const keys = (given: object) => {
      const read = peers(given);
      return read.kind === "invalid" ? read.problems.map(({ key }) => key) : read.config.peers.silence;
    };
    expect(keys({ heartbeatMs: 50, silenceMinMs: 200 })).toEqual({
      beatMs: 50,
      minMs: 200,
      maxMs: 3_000,
      deviations: 8,
    });
    expect(keys({ silenceMinMs: 5_000 })).toMatchObject({ minMs: 5_000, maxMs: 5_000 });
    expect(keys({ heartbeatMs: 500 })).toEqual(["peers.silenceMinMs"]);
    expect(keys({ silenceMinMs: 900, silenceMaxMs: 400 })).toEqual(["peers.silenceMaxMs"]);
  });

  it("takes tags, and refuses those that it does not know with a suggestion", () => {
    expect(valid({ ...least, tags: { nosync: true, priority: -2, zone: "east" } }).tags).toEqual({
      nofailover: false,
      nosync: true,
      priority: -2,
      zone: "east",
    });
    expect(problems({ ...least, tags: { noSync: true } })).toEqual([expect.stringMatching(/^tags\.noSync: .*nosync/)]);
    expect(problems({ ...least, tags: { zone: "a room" } })).toEqual([expect.stringMatching(/^tags\.zone: must be/)]);
    expect(problems({ ...least, tags: { priority: 0.5 } })).toEqual([expect.stringMatching(/^tags\.priority: /)]);
  });

  it("fills in every default from the least that must be said", () => {
    expect(valid(least)).toEqual({
      shard: "1",
      shardPath: "/manatee/1",
      self: {
        id: "10.0.0.11:5432:12345",
        zoneId: "peer1",
        ip: "10.0.0.11",
        pgUrl: "tcp://postgres@10.0.0.11:5432/postgres",
        backupUrl: "http://10.0.0.11:12345",
      },
      store: {
        kind: "zookeeper",
        connectString: "10.0.0.1:2181",
        sessionTimeoutMs: 10_000,
        digest: undefined,
        saslDigest: undefined,
        tls: undefined,
      },
      postgres: {
        dataDir: "/var/lib/manatee/data",
        host: "10.0.0.11",
        port: 5432,
        binDir: undefined,
        version: undefined,
        socketDir: "/var/lib/manatee/data.manatee/socket",
        superuser: "postgres",
        replicationUser: "manatee_replication",
        replicationPasswordFile: "/var/lib/manatee/data.manatee/replication-password",
        superuserPasswordFile: "/var/lib/manatee/data.manatee/superuser-password",
        operatorConfigFile: undefined,
        operatorHbaFile: undefined,
        parameters: {},
        walKeepBytes: 1_073_741_824,
        walSenderTimeoutMs: 10_000,
        probeLimitMs: 3_000,
        startLimitMs: 60_000,
        stopLimitMs: 10_000,
        forksDir: "/var/lib/manatee/data.forks",
        freeBytesMin: 1_073_741_824,
      },
      peers: { silence: { beatMs: 200, minMs: 800, maxMs: 3_000, deviations: 8 }, tls: undefined },
      tags: { nofailover: false, nosync: false, priority: 0, zone: undefined },
      policy: {
        oneNodeWriteMode: false,
        takeoverAlone: false,
        rejoin: "automatic",
        adoptData: false,
        forksKeptMax: 2,
        suspectMs: 2_000,
        opsTimeoutMs: 10_000,
        isolationMs: 10_000,
        takeoversPerHourMax: 5,
        syncLagBytesMax: 16_777_216,
        bootstrapPeersMin: 2,
      },
      healthCheckIntervalMs: 1_000,
      peerProbeLimitMs: 1_000,
      statusHost: "10.0.0.11",
      statusPort: 5433,
      registrar: { enabled: true, ttlSeconds: 60 },
      historyKept: 1_000,
      stateDir: "/var/lib/manatee/data.manatee",
      logLevel: "info",
    });
  });

  it("takes a file of the original's, with a warning for each key that means nothing any more", () => {
    const original = `{
      "// comment": "one", "// comment": "two",
      "ip": "10.77.77.7", "zoneId": "f47c4766-1857-4bdc-97f0-c1fd009c955b", "shardPath": "/manatee/1.moray.example.com",
      "postgresPort": 5432, "backupPort": 12345, "ttl": 60,
      "zkCfg": { "connStr": "10.77.77.92:2181,10.77.77.93:2181", "opts": { "sessionTimeout": 60000, "//": "x", "//": "y" } },
      "postgresMgrCfg": {
        "dataDir": "/manatee/pg/data", "dbUser": "postgres", "url": "tcp://postgres@10.77.77.7:5432/postgres",
        "hbaConfFile": "/opt/etc/pg_hba.conf", "postgresConf": "/opt/etc/postgresql.conf", "recoveryConf": "/opt/etc/recovery.conf",
        "postgresConfDir": "/opt/etc", "postgresConfFile": "postgresql.conf", "recoveryConfFile": "recovery.conf",
        "dataConfig": "/manatee/pg/manatee-config.json", "defaultVersion": "9.6", "versions": { "9.6": "9.6.3" }, "pgBaseDir": "/opt/postgresql/",
        "pgInitDbPath": "/opt/local/bin/initdb", "postgresPath": "/opt/local/bin/postgres",
        "healthChkInterval": 1500, "healthChkTimeout": 5000, "opsTimeout": 61000, "pgConnectTimeout": 60, "replicationTimeout": 60000,
        "oneNodeWriteMode": true, "snapShotterCfg": { "dataset": "zones/x" },
        "zfsClientCfg": { "dataset": "zones/x", "mountpoint": "/manatee/pg", "zfsHost": "10.77.77.7", "zfsPort": 10001, "zfsPath": "/usr/sbin/zfs", "pollInterval": 1000 }
      }
    }`;
    const result = read(original);
    if (result.kind === "invalid") throw new Error(JSON.stringify(result.problems));
    const { config, warnings } = result;
    expect(config).toMatchObject({
      shard: "1.moray.example.com",
      self: { id: "10.77.77.7:5432:12345" },
      store: { connectString: "10.77.77.92:2181,10.77.77.93:2181", sessionTimeoutMs: 60_000 },
      healthCheckIntervalMs: 1_500,
      registrar: { ttlSeconds: 60 },
      policy: { oneNodeWriteMode: true, bootstrapPeersMin: 1 },
      postgres: {
        binDir: "/opt/local/bin",
        startLimitMs: 61_000,
        probeLimitMs: 5_000,
        operatorHbaFile: "/opt/etc/pg_hba.conf",
        operatorConfigFile: "/opt/etc/postgresql.conf",
        version: undefined,
      },
    });
    expect(warnings.map(({ key }) => key.replace("postgresMgrCfg.", "")).sort()).toEqual(
      [
        "dataConfig",
        "defaultVersion",
        "pgBaseDir",
        "pgConnectTimeout",
        "postgresConfDir",
        "postgresConfFile",
        "recoveryConf",
        "recoveryConfFile",
        "replicationTimeout",
        "sessionTimeout",
        "snapShotterCfg",
        "versions",
        "zfsClientCfg",
      ].sort(),
    );
  });

  it("takes store and shard from the environment where the file has none, and the file's first", () => {
    const { zkCfg: _, shardPath: __, ...rest } = least;
    expect(valid(rest, { ZK_IPS: "10.0.0.1,10.0.0.2:2182", SHARD: "blue", LOG_LEVEL: "debug" })).toMatchObject({
      shardPath: "/manatee/blue",
      store: { connectString: "10.0.0.1:2181,10.0.0.2:2182" },
      logLevel: "debug",
    });
    expect(valid(least, { ZK_IPS: "192.0.2.1", SHARD: "blue" })).toMatchObject({
      shardPath: "/manatee/1",
      store: { connectString: "10.0.0.1:2181" },
    });
    expect(problems(rest)).toEqual([
      expect.stringMatching(/^shardPath: is missing -> .*SHARD/),
      expect.stringMatching(/^zkCfg.connStr: is missing -> .*ZK_IPS/),
    ]);
  });

  it("takes the embedded store", () => {
    const { zkCfg: _, ...rest } = least;
    expect(valid({ ...rest, store: { kind: "local", directory: "/tmp/store/" } }).store).toEqual({
      kind: "local",
      directory: "/tmp/store",
      sessionTimeoutMs: 10_000,
    });
    expect(problems({ ...least, store: { kind: "local", directory: "/tmp/store" } })).toEqual([
      expect.stringContaining("store: stands beside zkCfg"),
    ]);
    expect(problems({ ...rest, store: { kind: "etcd" } })).toEqual([expect.stringContaining('"kind": "local"')]);
  });

  it.each([
    [{ ...least, shardpath: "/x" }, "shardpath: is not a known key -> did you mean shardPath?"],
    [
      { ...least, postgres: { dataDir: "/d", dataDri: "/d" } },
      "postgres.dataDri: is not a known key -> did you mean postgres.dataDir?",
    ],
    [{ ...least, suspectMs: 100 }, "suspectMs: is not a key that stands here -> suspectMs belongs under policy"],
    [{ ...least, ip: "::1" }, "ip: is not an IPv4 address"],
    [{ ...least, ip: undefined }, "ip: is missing"],
    [{ ...least, postgres: {} }, "postgres.dataDir: is missing"],
    [{ ...least, postgres: "x" }, "postgres: must be an object"],
    [{ ...least, postgresPort: "5432" }, "postgresPort: must be a port"],
    [{ ...least, postgresPort: 5432.5 }, "postgresPort: must be a port"],
    [{ ...least, postgres: { dataDir: "data" } }, "postgres.dataDir: must be an absolute path"],
    [
      { ...least, postgres: { dataDir: "/d", url: "tcp://postgres@db.example.com:5432/postgres" } },
      "postgres.url: must name an IPv4 address, not db.example.com",
    ],
    [
      { ...least, postgres: { dataDir: "/d", url: "postgres://postgres@10.0.0.11/postgres" } },
      "postgres.url: is not of the form tcp://",
    ],
    [
      {
        ...least,
        postgres: { dataDir: "/d", url: "tcp://postgres@10.0.0.11:5432/a_database_with_a_name_too_long_by_x" },
      },
      "postgres.url: is 66 bytes long",
    ],
    [
      { ...least, postgresPort: 5433, postgres: { dataDir: "/d", url: "tcp://postgres@10.0.0.11:5432/postgres" } },
      "postgres.url: names port 5432, postgresPort is 5433",
    ],
    [{ ...least, backupPort: 5433 }, "backupPort: is the status service's port"],
    [{ ...least, stateDir: "/var/lib/manatee/data/state" }, "stateDir: lies inside the data directory"],
    [
      { ...least, postgres: { dataDir: "/d", parameters: { recovery_target_time: "now" } } },
      "postgres.parameters.recovery_target_time: is set by Manatee itself",
    ],
    [{ ...least, postgres: { dataDir: "/d", walKeepBytes: "1 parsec" } }, "postgres.walKeepBytes: must be bytes"],
    [{ ...least, postgres: { dataDir: `/${"d".repeat(100)}` } }, "postgres.socketDir: makes a socket's path of"],
    [{ ...least, policy: { rejoin: "never" } }, 'policy.rejoin: must be "automatic" or "manual"'],
    [{ ...least, zkCfg: { connStr: "10.0.0.1:99999" } }, "zkCfg.connStr: is not a list of HOST:PORT"],
    [{ ...least, zkCfg: { connStr: "10.0.0.1", digest: "secret" } }, "zkCfg.digest: must be USER:PASSWORD"],
    [{ ...least, zkCfg: { connStr: "10.0.0.1", saslDigest: "secret" } }, "zkCfg.saslDigest: must be USER:PASSWORD"],
    [{ ...least, zkCfg: { connStr: "10.0.0.1", tls: { certFile: "/c" } } }, "zkCfg.tls.caFile: is missing"],
    [
      { ...least, zkCfg: { connStr: "10.0.0.1", tls: { caFile: "/ca", certFile: "/c" } } },
      "zkCfg.tls: must have certFile and keyFile both, or neither",
    ],
    [{ ...least, postgresMgrCfg: { dataDir: "/d" } }, "postgres: stands beside postgresMgrCfg"],
    [
      { ...least, postgres: { dataDir: "/d", version: "13" } },
      "postgres.version: is 13; PostgreSQL 14 to 18 are supported",
    ],
    ["[]", ": holds no object"],
    ['{\n "ip": "10.0.0.11",\n}', ": is not JSON"],
    [
      '{"ip": "10.0.0.11", "zkCfg": {"connStr": "a", "connStr": "b"}, "ip": "10.0.0.12"}',
      "zkCfg.connStr: is there twice",
    ],
  ])("says what is wrong and the way out: %j", (value, start) => {
    expect(problems(value).some((problem) => problem.startsWith(start))).toBe(true);
  });

  it("names every problem at once", () => {
    expect(problems({ ip: "x", zoneId: "", postgres: { dataDir: "d" }, foo: 1 }).length).toBe(4);
  });

  it("never shows a password, not even in what is wrong with it", () => {
    expect(problems({ ...least, zkCfg: { connStr: "a", digest: "sesame" } }).join()).not.toContain("sesame");
    expect(problems(least, { MANATEE_ZK_DIGEST: "sesame" }).join()).not.toContain("sesame");
    expect(problems(least, { MANATEE_ZK_SASL: "sesame" }).join()).not.toContain("sesame");
    expect(problems(least, { MANATEE_ZK_SASL: "sesame" }).join()).toContain("MANATEE_ZK_SASL: is not of the form");
    expect(problems('{"zkCfg": {"digest": "u:sesame" oops}}').join()).not.toContain("sesame");
  });

  it("refuses a log level that is none", () => {
    expect(problems(least, { LOG_LEVEL: "loud" })).toEqual([
      expect.stringContaining("LOG_LEVEL: is not a level: loud"),
    ]);
  });

  it("reads sizes with units of 1024", () => {
    const postgres = { dataDir: "/d", walKeepBytes: "1.5GB", freeBytesMin: 5 };
    expect(valid({ ...least, postgres }).postgres).toMatchObject({ walKeepBytes: 1.5 * 2 ** 30, freeBytesMin: 5 });
  });
});
