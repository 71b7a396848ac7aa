// The formats of PostgreSQL that the driver reads and writes by itself.

import { createHash } from "node:crypto";
import { appendFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { lsn } from "../../src/base/lsn.ts";
import { parseSyncStandbyNames, syncStandbyNames, formatConnInfo } from "../../src/postgres/real/configuration.ts";
import { parseControlFile } from "../../src/postgres/real/control-file.ts";
import { crc32c } from "../../src/postgres/real/crc32c.ts";
import { gateIn, hbaContent } from "../../src/postgres/real/hba.ts";
import { manifestProblem } from "../../src/postgres/real/manifest.ts";
import { parseMark } from "../../src/postgres/real/mark.ts";
import { segmentNumber } from "../../src/postgres/wal-segments.ts";
import { parseLogLine, reasonNotToGoOn, removedSegment, ServerLog } from "../../src/postgres/real/server-log.ts";
import { type TarEntry, TarReader } from "../../src/postgres/real/tar.ts";
import { parseHistory } from "../../src/postgres/real/timeline-history.ts";

describe("CRC-32C", () => {
  it("gives the published check value", () => {
    expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  });

  it("gives the same however the data is cut", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (data, cut) => {
        const at = Math.min(cut, data.length);
        expect(crc32c(data.subarray(at), crc32c(data.subarray(0, at)))).toBe(crc32c(data));
      }),
    );
  });
});

describe("the control file", () => {
  const sample = (): Buffer => {
    const bytes = Buffer.alloc(512);
    bytes.writeBigUInt64LE(7_000_000_000_000_000_001n, 0);
    bytes.writeUInt32LE(1300, 8);
    bytes.writeUInt32LE(6, 16);
    bytes.writeBigUInt64LE(0x3000060n, 32);
    bytes.writeBigUInt64LE(0x2000028n, 40);
    bytes.writeUInt32LE(4, 48);
    bytes.writeBigUInt64LE(0x4000000n, 136);
    bytes.writeUInt32LE(5, 144);
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, 288)), 288);
    return bytes;
  };

  it("is read where the checksum fits", () => {
    expect(parseControlFile(sample())).toEqual({
      systemIdentifier: "7000000000000000001",
      state: "in production",
      checkpoint: lsn(0x3000060n),
      redo: lsn(0x2000028n),
      checkpointTimeline: 4,
      minRecoveryPoint: lsn(0x4000000n),
      minRecoveryTimeline: 5,
    });
  });

  it("is refused where one bit differs", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 291 }), fc.integer({ min: 0, max: 7 }), (offset, bit) => {
        const bytes = sample();
        bytes[offset] = (bytes[offset] as number) ^ (1 << bit);
        expect(typeof parseControlFile(bytes)).toBe("string");
      }),
    );
  });
});

describe("timeline history files", () => {
  it("are read as the timelines that were left", () => {
    expect(parseHistory("1\t0/3000060\tno recovery target specified\n\n2\t1/A0\tbefore 2000-01-01\n")).toEqual([
      { timeline: 1, end: 0x3000060n },
      { timeline: 2, end: 0x1000000a0n },
    ]);
  });

  it("with comments only are placeholders, and no lineage", () => {
    expect(parseHistory("# placeholder: timeline 3 was used or claimed\n")).toBeUndefined();
  });
});

describe("synchronous_standby_names", () => {
  it("requires all names, quoted, in order (S1)", () => {
    expect(syncStandbyNames(["tcp://a@1.2.3.4:5432/postgres", 'x"y'])).toBe(
      'FIRST 2 ("tcp://a@1.2.3.4:5432/postgres", "x""y")',
    );
    expect(syncStandbyNames([])).toBe("");
  });

  it("is read back as it was written", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1 }), { maxLength: 3 }), (names) => {
        expect(parseSyncStandbyNames(syncStandbyNames(names))).toEqual(names);
      }),
    );
  });

  it("of another form equals nothing that could be wanted", () => {
    expect(parseSyncStandbyNames("ANY 1 (a, b)")).toEqual(["ANY 1 (a, b)"]);
    expect(parseSyncStandbyNames('FIRST 1 ("a", "b")')).toEqual(['FIRST 1 ("a", "b")']);
  });
});

it("connection strings quote what libpq would take apart", () => {
  expect(formatConnInfo({ host: "::1", passfile: "/a b/it's" })).toBe("host='::1' passfile='/a b/it\\'s'");
});

describe("the generated pg_hba.conf", () => {
  const config = { superuser: "postgres", replicationUser: "repl" } as Parameters<typeof hbaContent>[0];
  const operator = "host all app 10.0.0.0/8 scram-sha-256";

  it("admits the sitter and the peers only while the gate is closed (P1)", () => {
    const content = hbaContent(config, { gate: "closed", peers: [{ ip: "10.0.0.2" }, { ip: "10.0.0.2" }], operator });
    expect(content.indexOf(operator), "read, and never reached").toBeGreaterThan(
      content.indexOf("all,replication all all reject"),
    );
    expect(content.match(/10\.0\.0\.2\/32/g)).toHaveLength(2);
    expect(content).toContain("host  all,replication all all reject");
    expect(content.match(/trust$/gm)).toHaveLength(2);
    expect(gateIn(content)).toBe("closed");
  });

  it("ends with the operator's rules while it is open, behind the rejection of the peers' role from elsewhere", () => {
    const content = hbaContent(config, { gate: "open", peers: [], operator });
    expect(content.indexOf('"repl" all reject')).toBeGreaterThan(0);
    expect(content.indexOf(operator)).toBeGreaterThan(content.indexOf('"repl" all reject'));
    expect(gateIn(content)).toBe("open");
  });
});

describe("the mark", () => {
  it("is malformed unless every field is what it must be", () => {
    const whole = { shard: "s", incarnation: "i", founding: false, incomplete: false };
    expect(parseMark(JSON.stringify(whole))).toEqual({
      ...whole,
      claim: undefined,
      source: undefined,
      lastDocument: undefined,
    });
    for (const wrong of [
      "",
      "[]",
      JSON.stringify({ ...whole, shard: 1 }),
      JSON.stringify({ ...whole, incomplete: undefined }),
      JSON.stringify({ ...whole, claim: {} }),
      JSON.stringify({ ...whole, lastDocument: { version: "1", json: "" } }),
    ])
      expect(parseMark(wrong)).toBeUndefined();
  });
});

describe("the server's log", () => {
  const line = (severity: string, code: string, message: string, backend = "client backend") =>
    `2026-01-02 03:04:05.678 UTC [42] ${backend} ${code} ${severity}:  ${message}`;

  it("is parsed by our prefix", () => {
    expect(parseLogLine(line("FATAL", "57P03", "the database system is starting up"))).toEqual({
      pid: 42,
      backend: "client backend",
      severity: "FATAL",
      sqlState: "57P03",
      message: "the database system is starting up",
    });
    expect(parseLogLine("\tsome continuation")).toBeUndefined();
  });

  it.each([
    [line("PANIC", "53100", 'could not write to file "pg_wal/xlogtemp.1": No space left on device'), true],
    [line("ERROR", "53100", 'could not extend file "base/5/16384": No space left on device'), true],
    [line("ERROR", "53100", 'could not write to file "base/pgsql_tmp/pgsql_tmp1.0": No space left on device'), false],
    [line("ERROR", "58030", 'could not read block 1 in file "base/5/2": Input/output error'), true],
    [line("ERROR", "42P01", 'relation "x" does not exist'), false],
  ])("says whether the server can go on: %s (T2)", (text, stops) => {
    const message = parseLogLine(text);
    expect(message && reasonNotToGoOn(message) !== undefined).toBe(stops);
  });
});

describe("a receiver's word that the upstream has removed WAL (R1.9)", () => {
  const text =
    "could not receive data from WAL stream: ERROR:  requested WAL segment 0000000200000001000000FE has already been removed";

  it.each([
    [`2026-01-02 03:04:05.678 UTC [42] walreceiver 08P01 FATAL:  ${text}`, "0000000200000001000000FE"],
    [`2026-01-02 03:04:05.678 UTC [42] client backend P0001 ERROR:  ${text}`, undefined],
    ["2026-01-02 03:04:05.678 UTC [42] walreceiver 08P01 FATAL:  could not connect to the primary server", undefined],
  ])("is believed of a receiver only: %s", (line, segment) => {
    const message = parseLogLine(line);
    expect(message && removedSegment(message)).toBe(segment);
  });

  it("names a segment by its place", () => {
    expect(segmentNumber("0000000200000001000000FE", 16n * 1024n ** 2n)).toBe(0x1_fe00_0000n / (16n * 1024n ** 2n));
    expect(segmentNumber("000000010000000100000003", 1024n ** 3n)).toBe(7n);
    expect(segmentNumber("00000002.history", 1024n ** 3n)).toBeUndefined();
  });
});

describe("following the server's log", () => {
  it("tells a message that repeats once a minute, counts what matters, and forgets at a new start", async () => {
    const folder = await mkdtemp(join(tmpdir(), "manatee-log-"));
    try {
      const path = join(folder, "server.log");
      const told: string[] = [];
      const silent = () => undefined;
      const log = {
        trace: silent,
        debug: silent,
        info: silent,
        warn: (text: string) => void told.push(text),
        error: (text: string) => void told.push(text),
        child: () => log,
      };
      let now = 0;
      const serverLog = new ServerLog(path, { log, clock: { now: () => now, wall: () => now } });
      const say = (rest: string) => appendFile(path, `2026-01-02 03:04:05.678 UTC [42] ${rest}\n`);
      await serverLog.read();
      for (let i = 0; i < 3; i++) await say("walreceiver 08006 FATAL:  could not connect to the primary server");
      await serverLog.read();
      expect(told).toEqual(["PostgreSQL says"]);
      now = 60_000;
      await say("walreceiver 08006 FATAL:  could not connect to the primary server");
      await say("client backend 28P01 FATAL:  password authentication failed");
      await serverLog.read();
      expect(told).toHaveLength(2);
      await say("checkpointer 53100 PANIC:  could not write to file: No space left on device");
      await say("client backend 01000 WARNING:  canceling wait for synchronous replication due to user request");
      await serverLog.read();
      expect(told).toHaveLength(4);
      expect(serverLog.cannotGoOn).toContain("No space left");
      expect(serverLog.cancelledWaits).toBe(1);
      await say(
        "client backend 57P01 WARNING:  canceling the wait for synchronous replication and terminating connection due to administrator command",
      );
      await say("client backend P0001 ERROR:  canceling wait for synchronous replication due to user request");
      await serverLog.read();
      expect(serverLog.cancelledWaits).toBe(2);
      expect(serverLog.lastWords()).toContain("No space left");
      await serverLog.begin();
      expect(serverLog.cannotGoOn).toBeUndefined();
      expect(serverLog.cancelledWaits).toBe(0);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("the log of a server that runs already", () => {
  it("is read from its start on, which no statement of a client's passes for", async () => {
    const folder = await mkdtemp(join(tmpdir(), "manatee-log-"));
    try {
      const path = join(folder, "log");
      const said = [
        "[1] postmaster 00000 LOG:  starting PostgreSQL 15.6",
        "[7] client backend 01000 WARNING:  canceling wait for synchronous replication due to user request",
        "[2] postmaster 00000 LOG:  starting PostgreSQL 15.6",
        "[8] client backend 01000 WARNING:  canceling wait for synchronous replication due to user request",
        "[8] client backend 57P01 WARNING:  canceling the wait for synchronous replication and terminating connection due to administrator command",
        "[9] client backend 42P01 STATEMENT:  select [2] postmaster 00000 LOG:  starting PostgreSQL 15.6",
      ];
      await writeFile(path, said.map((rest) => `2026-01-02 03:04:05.678 UTC ${rest}\n`).join(""));
      const told: string[] = [];
      const tell = (text: string) => void told.push(text);
      const log = { trace: tell, debug: tell, info: tell, warn: tell, error: tell, child: () => log };
      const serverLog = new ServerLog(path, { log, clock: { now: () => 0, wall: () => 0 } });
      await serverLog.adopt();
      await serverLog.read();
      expect(serverLog.cancelledWaits).toBe(2);
      expect(told).toEqual([]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("the backup manifest", () => {
  const manifest = (files: readonly object[], timelines: readonly number[] = []) => {
    const head = `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": ${JSON.stringify(files)},\n"WAL-Ranges": ${JSON.stringify(timelines.map((Timeline) => ({ Timeline })))},\n`;
    return `${head}"Manifest-Checksum": "${createHash("sha256").update(head).digest("hex")}"}\n`;
  };
  const crc = Buffer.alloc(4);
  crc.writeUInt32LE(0xe3069283);
  const entry = { Path: "a", Size: 9, "Checksum-Algorithm": "CRC32C", Checksum: crc.toString("hex") };
  const received = { size: 9, crc32c: 0xe3069283 };

  it("finds nothing wrong with a whole copy, WAL beside it", () => {
    const files = new Map([
      ["a", received],
      ["pg_wal/000000010000000000000001", { size: 1, crc32c: 1 }],
    ]);
    expect(manifestProblem(manifest([entry]), files)).toBeUndefined();
  });

  it.each([
    ["a missing file", new Map()],
    ["another size", new Map([["a", { ...received, size: 8 }]])],
    ["another content", new Map([["a", { ...received, crc32c: 1 }]])],
    [
      "a file too many",
      new Map([
        ["a", received],
        ["b", received],
      ]),
    ],
  ])("finds %s", (_what, files) => {
    expect(manifestProblem(manifest([entry]), files)).toBeTypeOf("string");
  });

  it("finds a manifest that was changed, and a timeline's history that is missing", () => {
    expect(manifestProblem(manifest([entry]).replace('"Size":9', '"Size":8'), new Map([["a", received]]))).toContain(
      "own checksum",
    );
    expect(manifestProblem(manifest([entry], [2]), new Map([["a", received]]))).toContain("timeline 2");
  });
});

describe("tar streams", () => {
  const header = (name: string, size: number, type = "0") => {
    const block = Buffer.alloc(512);
    block.write(name, 0);
    block.write("0000600\0", 100);
    block.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
    block.write(type, 156);
    block.write("        ", 148);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return block;
  };
  const padded = (content: Buffer) => Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);

  it("come out the same however they are cut", async () => {
    const contents = [Buffer.from("x".repeat(700)), Buffer.alloc(0), Buffer.from("y".repeat(512))];
    const stream = Buffer.concat([
      header("folder/", 0, "5"),
      ...contents.flatMap((content, i) => [header(`folder/${i}`, content.length), padded(content)]),
      Buffer.alloc(1024),
    ]);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 900 }), async (step) => {
        const seen: [string, string][] = [];
        let entry: TarEntry | undefined;
        let parts: Buffer[] = [];
        const reader = new TarReader({
          async begin(next) {
            entry = next;
            parts = [];
          },
          async data(chunk) {
            parts.push(Buffer.from(chunk));
          },
          async end() {
            seen.push([`${entry?.kind} ${entry?.path}`, Buffer.concat(parts).toString()]);
          },
        });
        for (let i = 0; i < stream.length; i += step) await reader.write(stream.subarray(i, i + step));
        reader.finish();
        expect(seen).toEqual([
          ["folder folder", ""],
          ...contents.map((content, i) => [`file folder/${i}`, content.toString()]),
        ]);
      }),
      { numRuns: 50 },
    );
  });

  it("that are damaged or cut short are errors", async () => {
    const sink = { begin: () => Promise.resolve(), data: () => Promise.resolve(), end: () => Promise.resolve() };
    const damaged = header("a", 1);
    damaged[0] = 66;
    await expect(new TarReader(sink).write(damaged)).rejects.toThrow("checksum");
    const cut = new TarReader(sink);
    await cut.write(Buffer.concat([header("a", 10), Buffer.from("123")]));
    expect(() => cut.finish()).toThrow("inside an entry");
  });
});
