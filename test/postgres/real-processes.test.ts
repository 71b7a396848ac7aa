// Dying, hanging and orphaned processes of a real server (docs/protocol.md: T2, P1; "hung is not dead").

import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { chmod, copyFile, mkdir, readFile, realpath, rename, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { PostgresSettings, ServerObservation } from "../../src/cluster/observation.ts";
import type { Context } from "../../src/postgres/real/context.ts";
import { DiskLook } from "../../src/postgres/real/disk-look.ts";
import { MarkFile } from "../../src/postgres/real/mark.ts";
import { placesOf } from "../../src/postgres/real/places.ts";
import { Postmaster } from "../../src/postgres/real/postmaster.ts";
import { withConnection } from "../../src/postgres/real/sql.ts";
import { realClock, realTimers } from "../../src/world/real/clock.ts";
import {
  eventually,
  postmasterPid,
  PostgresBench,
  socketFolder,
  startPrimary,
  type TestPeer,
} from "../support/postgres.ts";

const OPEN: PostgresSettings = { syncNames: [], gate: "open", upstream: null };

describe("a server", () => {
  let bench: PostgresBench;
  let a: TestPeer;
  const start = () => a.perform({ kind: "start", as: "primary", settings: OPEN, unfinishedTimeline: undefined });

  beforeAll(async () => {
    bench = await PostgresBench.open();
    a = await bench.peer("a");
    await startPrimary(a);
    await a.sql("create table t (n int)");
  });
  beforeEach(async () => {
    // Whatever the test before has left.
    if ((await a.observe()).server.kind === "unresponsive") await a.perform({ kind: "stop", mode: "immediate" });
    if ((await a.observe()).server.kind === "stopped") await start();
    await a.primary();
  });
  afterAll(() => bench.cleanUp());

  it("that is killed is seen at once, as ended by itself (T2)", async () => {
    const pid = await postmasterPid(a);
    const killedAt = performance.now();
    const seen = new Promise<number>((resolve) => {
      const stop = a.postgres.onChange(() => {
        stop();
        resolve(performance.now());
      });
    });
    process.kill(pid, "SIGKILL");
    expect((await seen) - killedAt).toBeLessThan(1000);
    expect((await a.observe()).server).toMatchObject({ kind: "stopped", how: "exited" });
    expect((await a.observe()).data).toMatchObject({ controlState: "production" });
  });

  it("that is killed is seen by a driver that adopted it, too (T2)", async () => {
    const later = a.reopen();
    await later.primary();
    const seen = new Promise<void>((resolve) => later.postgres.onChange(resolve));
    process.kill(await postmasterPid(a), "SIGKILL");
    await seen;
    expect((await later.observe()).server).toMatchObject({ kind: "stopped", how: "exited" });
    await later.postgres.close("leave");
  });

  it("whose backend is killed ends instead of restarting past the gate (P1)", async () => {
    const client = await a.connect();
    const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    process.kill(pid, "SIGKILL");
    const { server } = await a.until("it has ended", (seen) => seen.server.kind === "stopped");
    expect(server).toMatchObject({ how: "exited" });
  });

  it("starts again at once although a busy backend outlived the postmaster", async () => {
    const client = await a.connect();
    const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    // Busy without looking at its postmaster: a sleep would notice its death.
    client.query("select count(*) from generate_series(1, 1000000000)").catch(() => undefined);
    await eventually("the backend works", async () => (await processorTicks(pid)) > 5);
    process.kill(await postmasterPid(a), "SIGKILL");
    await a.until("its end is seen", ({ server }) => server.kind === "stopped");
    expect(isRunning(pid)).toBe(true);
    await start();
    expect(isRunning(pid)).toBe(false);
    expect((await a.primary()).clientSessions).toBe(0);
  });

  it("that is frozen does not answer, though open connections still do; and is stopped by force within its limit", async () => {
    // So long that waiting for an orderly end would show.
    const patient = bench.withConfig(a, { stopLimitMs: 60_000 });
    await patient.primary();
    const client = await a.connect();
    const pid = await postmasterPid(a);
    process.kill(pid, "SIGSTOP");
    const { server } = await a.until("it does not answer", (seen) => seen.server.kind === "unresponsive");
    expect(server).toMatchObject({ reason: expect.stringContaining("did not answer") as string });
    expect((await client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    await expect(a.apply(OPEN)).rejects.toMatchObject({ code: "PG_UNRESPONSIVE" });
    const began = performance.now();
    await patient.perform({ kind: "stop", mode: "fast" });
    expect(performance.now() - began).toBeLessThan(patient.config.stopLimitMs / 2);
    expect((await patient.observe()).server).toMatchObject({ kind: "stopped", how: "stopped" });
    expect(await processesOn(a)).toEqual([]);
  });

  it("on a disk that hangs counts as unresponsive, and the looks at it come back (T2)", async () => {
    const mark = `${a.config.dataDir}/manatee.json`;
    const { data } = await a.observe();
    const content = await readFile(mark, "utf8");
    await rm(mark);
    // Whoever opens a pipe without a writer hangs, as on storage that is frozen.
    execFileSync("mkfifo", [mark]);
    try {
      // What was read a moment ago is not read again at once.
      await a.until("the disk is missed", ({ server }) => server.kind === "unresponsive");
      for (let look = 0; look < 2; look++)
        expect(await a.observe()).toMatchObject({
          server: { kind: "unresponsive", reason: expect.stringContaining("disk") as string },
          data,
        });
    } finally {
      await writeFile(mark, content);
      await rm(mark);
      await writeFile(mark, content);
    }
    await a.primary();
  });

  it("holds what it held while its data directory fails to be read: it would be stopped for other data otherwise (RESUME)", async () => {
    const places = placesOf(a.config);
    let now = 0;
    const clock = { ...realClock, now: () => now };
    const disk = new DiskLook({ places, clock, mark: new MarkFile(places) } as unknown as Context, undefined);
    const { server } = await a.observe();
    const look = (of: ServerObservation) => {
      // What was read a moment ago would not be read again.
      now += 60_000;
      return disk.look(of, { pid: 1, busy: false, major: undefined });
    };
    const { data } = await look(server);
    expect(data).toMatchObject({ kind: "present" });
    const away = `${places.dataDir}.away`;
    await rename(places.dataDir, away);
    try {
      // A link to itself: an error that tells nothing of who may read what.
      await symlink(places.dataDir, places.dataDir);
      expect(await look(server)).toMatchObject({ data });
      expect(await look({ kind: "stopped", since: 0, how: "exited" })).toMatchObject({
        data: { kind: "unusable", code: "PG_DATA_UNREADABLE" },
      });
    } finally {
      await rm(places.dataDir, { force: true });
      await rename(away, places.dataDir);
    }
    await a.primary();
  });

  it("is found by a sitter that can't read the data directory any more, and goes on (I5)", async () => {
    const pid = await postmasterPid(a);
    await chmod(a.config.dataDir, 0);
    try {
      const later = a.reopen();
      expect(await later.observe()).toMatchObject({
        // Its new backends can't read the data either.
        server: { kind: "unresponsive" },
        data: { kind: "unusable", code: "PG_DATA_UNREADABLE" },
      });
      await later.postgres.close("leave");
    } finally {
      await chmod(a.config.dataDir, 0o700);
    }
    expect(await postmasterPid(a)).toBe(pid);
    await a.primary();
  });

  it("whose backend is frozen is stopped within its limit", async () => {
    const client = await a.connect();
    const { pid } = (await client.query("select pg_backend_pid() as pid")).rows[0] as { pid: number };
    process.kill(pid, "SIGSTOP");
    await a.perform({ kind: "stop", mode: "immediate" });
    expect(isRunning(pid)).toBe(false);
    expect(await processesOn(a)).toEqual([]);
  });

  it("is stopped cleanly, with a shutdown record at its end (T3)", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const { data, server } = await a.observe();
    expect(server).toMatchObject({ kind: "stopped", how: "stopped" });
    expect(data).toMatchObject({ controlState: "shutdown" });
  });

  it("is left running when the driver closes, and adopted by the next one", async () => {
    const pid = await postmasterPid(a);
    await a.postgres.close("leave");
    a = a.reopen();
    await a.primary();
    expect(await postmasterPid(a)).toBe(pid);
    await a.perform({ kind: "stop", mode: "fast" });
    expect((await a.observe()).server).toMatchObject({ kind: "stopped", how: "stopped" });
  });

  it("is not taken for running when postmaster.pid names a process of somebody else's", async () => {
    await a.perform({ kind: "stop", mode: "immediate" });
    await writeFile(`${a.config.dataDir}/postmaster.pid`, `${process.pid}\n${a.config.dataDir}\n1\n`);
    const later = a.reopen();
    expect((await later.observe()).server).toMatchObject({ kind: "stopped", how: "not-started" });
    await start();
  });

  it("that somebody else started is not taken for ours", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const stranger = spawn(
      (await readlinkOfServer(a, start)).postgres,
      ["-D", a.config.dataDir, "-p", String(a.config.port), "-k", bench.folder, "-c", "listen_addresses="],
      { stdio: "ignore" },
    );
    try {
      await a.until(
        "it is seen",
        ({ server }) => server.kind === "unresponsive" && server.reason.includes("not started by Manatee"),
      );
    } finally {
      await a.perform({ kind: "stop", mode: "immediate" });
    }
    expect(stranger.exitCode !== null || stranger.signalCode !== null || (await processesOn(a)).length === 0).toBe(
      true,
    );
  });

  it("is not started beside one that listens on its socket and shows as no process: it runs in another container (I5)", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const { postgres } = await readlinkOfServer(a, start);
    await a.perform({ kind: "stop", mode: "fast" });
    const other = await bench.peer("other");
    await startPrimary(other);
    await other.perform({ kind: "stop", mode: "fast" });
    const socketDir = `${a.config.dataDir}.manatee/socket`;
    const port = String(a.config.port);
    const elsewhere = spawn(
      postgres,
      ["-D", other.config.dataDir, "-p", port, "-k", socketDir, "-c", "listen_addresses="],
      { stdio: "ignore", cwd: other.config.dataDir },
    );
    try {
      const refused = () =>
        start().then(
          () => "it started",
          (error: unknown) => (error as { code?: string }).code,
        );
      await eventually("it listens", () => isListening(`${socketDir}/.s.PGSQL.${port}`));
      expect(await refused()).toBe("PG_RUNS_ELSEWHERE");
      process.kill(elsewhere.pid as number, "SIGSTOP");
      expect(await refused(), "also where it is frozen").toBe("PG_RUNS_ELSEWHERE");
    } finally {
      process.kill(elsewhere.pid as number, "SIGCONT");
      await other.perform({ kind: "stop", mode: "immediate" });
    }
    await start();
    await a.primary();
  });

  it("that can't start says why", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const broken = bench.withConfig(a, { parameters: { shared_buffers: "nonsense" } });
    await expect(
      broken.perform({ kind: "start", as: "primary", settings: OPEN, unfinishedTimeline: undefined }),
    ).rejects.toMatchObject({ code: "PG_START_FAILED", message: expect.stringContaining("nonsense") as string });
    await expect(a.apply(OPEN)).rejects.toMatchObject({ code: "PG_NOT_RUNNING" });
    const failure = (await broken.observe()).failure;
    expect(failure).toMatchObject({
      action: "start",
      count: 1,
      hint: "Correct the line of the operator's configuration that PostgreSQL names.",
    });
    const taken = bench.withConfig(a, { host: "203.0.113.1" });
    await expect(
      taken.perform({ kind: "start", as: "primary", settings: OPEN, unfinishedTimeline: undefined }),
    ).rejects.toMatchObject({ code: "PG_START_FAILED", message: expect.stringContaining("203.0.113.1") as string });
    expect((await taken.observe()).failure?.hint).toMatch(
      /^Set ip \(or postgres.listenAddress\) to an address of this machine/,
    );
  });

  it("does not start where others could come in by its socket, or the socket's path is too long", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const open = `${bench.folder}/open`;
    await mkdir(open);
    await chmod(open, 0o755);
    for (const [socketDir, message] of [
      [open, "others could come in as superuser"],
      [`${bench.folder}/${"long".repeat(30)}`, "is longer than"],
    ] as const) {
      const elsewhere = bench.withConfig(a, { socketDir });
      await expect(
        elsewhere.perform({ kind: "start", as: "primary", settings: OPEN, unfinishedTimeline: undefined }),
      ).rejects.toMatchObject({ code: "PG_SOCKET_FOLDER", message: expect.stringContaining(message) as string });
    }
    expect(await processesOn(a)).toEqual([]);
  });

  it("counts as not stopped while somebody goes on starting processes on its data directory", async () => {
    await a.perform({ kind: "stop", mode: "fast" });
    const program = `${bench.folder}/postgres`;
    await copyFile("/bin/sleep", program);
    let ms = 0;
    // Between each look for processes and the signal to those that were found, another one begins.
    const now = () => {
      spawn(program, ["60"], { cwd: a.config.dataDir, stdio: "ignore" });
      return (ms += 500);
    };
    const postmaster = new Postmaster({
      places: placesOf(a.config),
      port: a.config.port,
      clock: { now, wall: now },
      timers: realTimers,
      onChange: () => undefined,
    });
    await expect(postmaster.stop("immediate", 1000)).rejects.toMatchObject({
      code: "PG_STOP_FAILED",
      message: expect.stringMatching(/^processes \d+.* did not end when killed$/) as string,
    });
    await a.perform({ kind: "stop", mode: "immediate" });
    await eventually("nobody is left", async () => (await processesOn(a)).length === 0);
  });

  it("is asked no longer by a job that was cancelled", async () => {
    const target = { host: socketFolder(a.config), port: a.config.port, user: "postgres", database: "postgres" };
    const cancel = new AbortController();
    const asking = withConnection(
      target,
      { limitMs: 60_000, timers: realTimers, signal: cancel.signal },
      async ({ query }) => {
        await query("select 1");
        cancel.abort();
        await query("select pg_sleep(60)");
      },
    );
    await expect(asking).rejects.toMatchObject({ code: "PG_JOB_CANCELLED" });
  });

  it("starts with a distribution's configuration that names other folders", async () => {
    await a.perform({ kind: "stop", mode: "immediate" });
    const file = `${bench.folder}/distribution.conf`;
    await writeFile(
      file,
      "data_directory = '/var/lib/nowhere'\nhba_file = '/etc/nowhere'\nexternal_pid_file = '/var/run/nowhere/pid'\nunix_socket_directories = '/var/run/nowhere'\nport = 1\nwal_level = logical\n",
    );
    const distribution = bench.withConfig(a, { operatorConfigFile: file });
    await distribution.perform({ kind: "start", as: "primary", settings: OPEN, unfinishedTimeline: undefined });
    await distribution.primary();
    expect(
      await a.sql("select current_setting('wal_level') as level, current_setting('data_directory') as folder"),
    ).toEqual([{ level: "logical", folder: a.config.dataDir }]);
    await distribution.perform({ kind: "stop", mode: "fast" });
  });
});

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

async function processorTicks(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]?.split(" ") ?? [];
  return Number(fields[11]);
}

/** A zombie, which nobody may ever reap in a container, is not running. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function processesOn({ config }: TestPeer): Promise<number[]> {
  const folder = await realpath(config.dataDir);
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid > 0 && workingDirectory(pid) === folder);
}

function workingDirectory(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** The program that the driver runs for that peer. */
async function readlinkOfServer(peer: TestPeer, start: () => Promise<unknown>): Promise<{ postgres: string }> {
  await start();
  const postgres = readlinkSync(`/proc/${await postmasterPid(peer)}/exe`);
  await peer.perform({ kind: "stop", mode: "fast" });
  return { postgres };
}
