import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Session } from "../../../src/coordination/port.ts";
import { realClock, realRandom, realTimers } from "../../../src/world/real/clock.ts";
import type { Log } from "../../../src/world/port.ts";
import { bytes, connected, resultsOf, until } from "../../contracts/coordination.ts";
import { isAlive } from "../../support/processes.ts";
import { type CompiledDriver, compileDriver } from "./compiled-driver.ts";
import { silentLog } from "./silent-log.ts";

let driver: CompiledDriver;
let base: string;
let directory: string;
let sessions: Session[];
const children = new Set<ChildProcess>();
const pids = new Set<number>();

beforeAll(async () => {
  driver = await compileDriver();
});
afterAll(() => driver.remove());

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "manatee-local-"));
  directory = join(base, "store");
  sessions = [];
});

afterEach(async () => {
  await Promise.all(sessions.map((session) => session.close({ limitMs: 1000 })));
  for (const child of children) child.kill("SIGKILL");
  children.clear();
  await rm(base, { recursive: true, force: true });
  await until("no process of the store is left", () => [...pids].every((pid) => !isAlive(pid)));
  pids.clear();
});

function options(log: Log = silentLog) {
  return { directory, log, clock: realClock, timers: realTimers, random: realRandom };
}

function open(sessionTimeoutMs = 3000, log?: Log): Session {
  const session = driver.localStore(options(log)).open({ sessionTimeoutMs });
  sessions.push(session);
  return session;
}

async function serverPid(): Promise<number> {
  let pid: number | undefined;
  await until("somebody serves", async () => (pid = await driver.storeProcess(directory)) !== undefined);
  pids.add(pid as number);
  return pid as number;
}

async function gone(pid: number): Promise<void> {
  await until(`process ${pid} is gone`, () => !isAlive(pid));
}

/** A process that opens a session, makes an ephemeral node of that name, and says `ready SESSION`. */
function startUser(name: string): ChildProcess & { ready: Promise<string> } {
  const script = `
    import { localStore } from ${JSON.stringify(driver.url)};
    import { realClock, realRandom, realTimers } from ${JSON.stringify(driver.clockUrl)};
    const log = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => log };
    const session = localStore({ directory: ${JSON.stringify(directory)}, log, clock: realClock, timers: realTimers, random: realRandom })
      .open({ sessionTimeoutMs: 1000 });
    while (session.status.kind !== "connected") await new Promise((resolve) => setTimeout(resolve, 5));
    await session.write([{ kind: "create", path: "/${name}", data: new Uint8Array(), ephemeral: true }]);
    console.log("ready " + session.id);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.add(child);
  const ready = new Promise<string>((resolve, reject) => {
    child.on("exit", () => reject(new Error("the user ended")));
    child.stdout?.on("data", (data: Buffer) => {
      const match = /ready (\S+)/.exec(data.toString());
      if (match) resolve(match[1] as string);
    });
  });
  ready.catch(() => {});
  return Object.assign(child, { ready });
}

describe("the process of the embedded store", () => {
  test("is started by the first user, is not that user, and ends by itself when nobody is connected", async () => {
    const session = await connected(open());
    const pid = await serverPid();
    expect(pid).not.toBe(process.pid);
    expect(session.status).toMatchObject({ kind: "connected", server: `pid ${pid}` });
    expect(session.evaluationOnly).toBe(true);
    await session.close();
    await gone(pid);
    expect(await driver.storeProcess(directory)).toBeUndefined();
  });

  test("leaves everything on the disk: nodes, versions, sequences, and sessions that may be taken up", async () => {
    const first = await connected(open());
    resultsOf(await first.write([{ kind: "create", path: "/a", data: bytes("1") }]));
    resultsOf(await first.write([{ kind: "set", path: "/a", data: bytes("2"), version: 0 }]));
    resultsOf(
      await first.write([
        { kind: "create", path: "/a/s-", data: bytes(""), sequential: true },
        { kind: "create", path: "/e", data: bytes(""), ephemeral: true },
      ]),
    );
    const before = await first.read("/a");
    const { id, ticket } = first;
    const pid = await serverPid();
    await first.abandon();
    await gone(pid);

    const again = driver.localStore(options()).open({ sessionTimeoutMs: 3000, ...(ticket && { resume: ticket }) });
    sessions.push(await connected(again));
    expect(await serverPid()).not.toBe(pid);
    expect(again.id).toBe(id);
    expect(await again.read("/a")).toEqual(before);
    expect((await again.read("/e"))?.ephemeralOwner).toBe(id);
    const made = resultsOf(await again.write([{ kind: "create", path: "/a/s-", data: bytes(""), sequential: true }]));
    expect(made[0]?.path).toBe("/a/s-0000000001");
  });

  test("killed again and again under writes loses no confirmed write, no session and no ephemeral node", async () => {
    const [writer, watcher] = await Promise.all([connected(open()), connected(open())]);
    const ids = [writer.id, watcher.id];
    resultsOf(await writer.write([{ kind: "create", path: "/n", data: bytes("") }]));
    resultsOf(await watcher.write([{ kind: "create", path: "/e", data: bytes(""), ephemeral: true }]));
    let version = 0;
    let confirmed = 0;
    let stop = false;
    const writing = (async () => {
      while (!stop) {
        const outcome = await writer.write([{ kind: "set", path: "/n", data: bytes(String(version + 1)), version }]);
        if (outcome.kind === "yes") confirmed = ++version;
        else {
          await until("the writer is connected", () => writer.status.kind === "connected");
          const node = await writer.read("/n").catch(() => undefined);
          if (node) {
            expect([confirmed, confirmed + 1]).toContain(node.version);
            version = node.version;
            confirmed = node.version;
          }
        }
      }
    })();
    for (let round = 0; round < 6; round++) {
      const before = confirmed;
      await until("writes go on", () => confirmed > before + 3);
      const pid = await serverPid();
      process.kill(pid, "SIGKILL");
      await gone(pid);
    }
    const before = confirmed;
    await until("writes go on", () => confirmed > before + 3);
    stop = true;
    await writing;
    await until("both are connected", () => sessions.every(({ status }) => status.kind === "connected"));
    expect([writer.id, watcher.id]).toEqual(ids);
    expect((await watcher.read("/n"))?.version).toBe(confirmed);
    expect((await watcher.read("/e"))?.ephemeralOwner).toBe(watcher.id);
    await serverPid();
  });

  test("lives on when the process that started it is killed; that one's session ends in its time", async () => {
    const user = startUser("user");
    const id = await user.ready;
    const session = await connected(open());
    const pid = await serverPid();
    expect((await session.read("/user"))?.ephemeralOwner).toBe(id);
    user.kill("SIGKILL");
    await once(user, "exit");
    await until("the killed one's node is gone", async () => (await session.read("/user")) === undefined);
    expect(session.status).toMatchObject({ kind: "connected", server: `pid ${pid}` });
  });

  test("is one, however many start at the same moment", async () => {
    const users = Array.from({ length: 5 }, (_, index) => startUser(`user${index}`));
    await Promise.all(users.map(({ ready }) => ready));
    const session = await connected(open());
    expect([...((await session.list("/")) ?? [])].sort()).toEqual(users.map((_, index) => `user${index}`));
    await serverPid();
  });

  test("ends when its folder is deleted", async () => {
    const session = await connected(open(1000));
    const pid = await serverPid();
    await rm(directory, { recursive: true });
    await gone(pid);
    await session.abandon();
  });

  test("that comes up after its folder was deleted does not make it again", async () => {
    const child = spawn(process.execPath, [driver.serverProgram, directory], { stdio: "ignore" });
    children.add(child);
    const [status] = (await once(child, "exit")) as [number];
    expect(status).toBe(1);
    await expect(stat(directory)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("that was stopped for longer than a session's time ends no session for that when it goes on", async () => {
    const session = await connected(open(1000));
    resultsOf(await session.write([{ kind: "create", path: "/e", data: bytes(""), ephemeral: true }]));
    const ticket = session.ticket as NonNullable<Session["ticket"]>;
    const pid = await serverPid();
    process.kill(pid, "SIGSTOP");
    await until("the session knows its end", () => session.status.kind === "expired");
    process.kill(pid, "SIGCONT");
    const again = driver.localStore(options()).open({ sessionTimeoutMs: 1000, resume: ticket });
    sessions.push(await connected(again));
    expect(again.id).toBe(ticket.sessionId);
  });

  test("is reached in a folder whose path is longer than a socket's may be", async () => {
    directory = join(base, ...Array.from({ length: 5 }, () => "a-rather-long-name-of-a-folder"), "store");
    expect(directory.length).toBeGreaterThan(150);
    const session = await connected(open());
    expect(await session.list("/")).toEqual([]);
    await serverPid();
    expect((await stat(join(directory, "socket"))).isSocket()).toBe(true);
  });

  test("makes a folder that is its owner's alone", async () => {
    await connected(open());
    await serverPid();
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    for (const name of ["journal", "server.log", "claim-0000000001"])
      expect([name, (await stat(join(directory, name))).mode & 0o077]).toEqual([name, 0]);
  });
});

describe("a store that can't be served", () => {
  test("for a damaged file says so in the user's log, and touches nothing", async () => {
    await connected(open());
    const pid = await serverPid();
    await (sessions[0] as Session).write([{ kind: "create", path: "/a", data: bytes("x".repeat(100)) }]);
    await (sessions[0] as Session).write([{ kind: "create", path: "/b", data: bytes("y") }]);
    await (sessions[0] as Session).close();
    await gone(pid);
    const file = join(directory, "journal");
    const lines = (await readFile(file, "utf8")).split("\n");
    expect(lines.length).toBeGreaterThan(4);
    const damaged = lines
      .map((line, index) => (index === 2 ? `${line.slice(0, 20)}#${line.slice(21)}` : line))
      .join("\n");
    await writeFile(file, damaged);
    const errors: string[] = [];
    const log: Log = { ...silentLog, error: (_, fields) => errors.push(String(fields?.["error"])), child: () => log };
    const session = open(3000, log);
    await until("the log tells", () => errors.some((error) => error.includes("is damaged")));
    expect(session.status.kind).toBe("connecting");
    await session.close({ limitMs: 100 });
    expect(await readFile(file, "utf8")).toBe(damaged);
  });

  test("in a folder that others may enter, or that is none, is an error that names the way out", async () => {
    await mkdir(directory, { mode: 0o755 });
    await writeFile(join(directory, "something"), "");
    expect(() => open()).toThrow(expect.objectContaining({ code: "STORE_DIRECTORY", remedy: "operator" }));
    directory = join(directory, "something");
    expect(() => open()).toThrow(expect.objectContaining({ code: "STORE_DIRECTORY" }));
  });
});
