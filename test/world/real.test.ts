import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { realTimers } from "../../src/world/real/clock.ts";
import { realFiles } from "../../src/world/real/files.ts";
import { takeLock } from "../../src/world/real/lock.ts";
import { realLog } from "../../src/world/real/log.ts";
import { realNetwork } from "../../src/world/real/network.ts";

let folder: string;
const servers: Server[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-world-"));
});

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function serve(onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    onConnection(socket);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A port on which nobody listens. */
async function unusedPort(): Promise<number> {
  const port = await serve(() => undefined);
  const server = servers.pop() as Server;
  server.close();
  await once(server, "close");
  return port;
}

const HOST = "127.0.0.1";

describe("asking whether somebody is there (D2)", () => {
  it("tells a PostgreSQL that answers from one that refuses, and from one whose machine only connects", async () => {
    const port = await serve((socket) => socket.once("data", () => socket.write("N")));
    expect(await realNetwork.probePostgres({ host: HOST, port, limitMs: 2_000 })).toBe("open");
    expect(await realNetwork.probePostgres({ host: HOST, port: await unusedPort(), limitMs: 2_000 })).toBe("refused");
    const mute = await serve(() => {});
    expect(await realNetwork.probePostgres({ host: HOST, port: mute, limitMs: 100 })).toBe("silent");
  });

  it("takes a frozen process for silent, though its kernel opens the connection", async () => {
    const answering = `require("net").createServer((s) => s.once("data", () => s.write("N"))).listen(0, "${HOST}", function () { console.log(this.address().port); })`;
    const child = spawn(process.execPath, ["-e", answering]);
    try {
      const [line] = (await once(child.stdout, "data")) as [Buffer];
      const port = Number(String(line));
      expect(await realNetwork.probePostgres({ host: HOST, port, limitMs: 2_000 })).toBe("open");
      child.kill("SIGSTOP");
      expect(await realNetwork.probePostgres({ host: HOST, port, limitMs: 100 })).toBe("silent");
    } finally {
      child.kill("SIGKILL");
    }
  });

  it("takes a server that accepts and says nothing for silent, within the limit", async () => {
    const sockets: Socket[] = [];
    const port = await serve((socket) => sockets.push(socket));
    expect(await realNetwork.httpGet({ host: HOST, port, path: "/state", limitMs: 100 })).toBe("silent");
    for (const socket of sockets) socket.destroy();
  });

  it("takes one that listens no more for refused, and a connection that breaks for silent", async () => {
    expect(await realNetwork.httpGet({ host: HOST, port: await unusedPort(), path: "/", limitMs: 2_000 })).toBe(
      "refused",
    );
    const port = await serve((socket) => socket.once("data", () => socket.resetAndDestroy()));
    expect(await realNetwork.httpGet({ host: HOST, port, path: "/", limitMs: 2_000 })).toBe("silent");
    const half = await serve((socket) =>
      socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")),
    );
    expect(await realNetwork.httpGet({ host: HOST, port: half, path: "/", limitMs: 2_000 })).toBe("silent");
  });

  it("does not read an answer without end", async () => {
    const port = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const pump = () => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      };
      socket.on("drain", pump);
      pump();
    });
    expect(await realNetwork.httpGet({ host: HOST, port, path: "/", limitMs: 20_000 })).toBe("silent");
  });
});

describe("files", () => {
  it("are written whole, with their mode, and leave nothing beside them", async () => {
    const path = join(folder, "deep", "ticket");
    expect(await realFiles.read(path)).toBeUndefined();
    await realFiles.write(path, "one", { mode: 0o600 });
    await realFiles.write(path, "two", { mode: 0o600 });
    expect(await realFiles.read(path)).toBe("two");
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await realFiles.remove(path);
    await realFiles.remove(path);
    expect(await realFiles.read(path)).toBeUndefined();
  });

  it("that can't be written say so, and how to go on", async () => {
    writeFileSync(join(folder, "file"), "");
    await expect(realFiles.write(join(folder, "file", "below"), "x")).rejects.toMatchObject({
      code: "FILE_UNWRITABLE",
      remedy: "operator",
    });
  });

  it("that can't be read say so: they are not taken for files that are not there", async () => {
    await expect(realFiles.read(folder)).rejects.toMatchObject({
      code: "FILE_UNREADABLE",
      message: `cannot read ${folder}`,
      remedy: "operator",
    });
  });
});

describe("the lock", () => {
  it("admits one holder, and the next once it is released", async () => {
    // Longer than the path of a socket may be.
    const path = join(folder, "deep".repeat(40), "lock");
    const held = await takeLock(path);
    await expect(takeLock(path)).rejects.toMatchObject({ code: "SITTER_ALREADY_RUNNING" });
    held.release();
    (await takeLock(path)).release();
    expect(readdirSync(dirname(path))).toEqual([]);
    const snapshotters = await takeLock(path, "snapshotter");
    await expect(takeLock(path, "snapshotter")).rejects.toMatchObject({ code: "SNAPSHOTTER_ALREADY_RUNNING" });
    snapshotters.release();
  });

  it("is taken over from a process that is gone, and from another one that got its pid", async () => {
    const path = join(folder, "lock");
    const child = spawn(process.execPath, ["-e", ""]);
    await once(child, "exit");
    writeFileSync(path, `${child.pid} boot-1234\n`);
    (await takeLock(path)).release();
    writeFileSync(path, `${process.pid} another-boot-1\n`);
    (await takeLock(path)).release();
    writeFileSync(path, "not a lock at all");
    const held = await takeLock(path);
    expect(readFileSync(path, "utf8")).toMatch(new RegExp(`^${process.pid} `));
    held.release();
  });
});

describe("the log", () => {
  it("is one line of JSON an event, on the disk before the call returns", () => {
    const path = join(folder, "log");
    const log = realLog({ name: "manatee-sitter", level: "info", descriptor: openSync(path, "a") });
    log.debug("not told");
    log.child({ peer: "a" }).info("decision", { rule: "T1", waitingOn: undefined });
    const lines = readFileSync(path, "utf8").trim().split("\n");
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      level: "info",
      name: "manatee-sitter",
      peer: "a",
      rule: "T1",
      msg: "decision",
    });
  });
});

describe("a log that can't be written", () => {
  const filled = "x".repeat(200);

  it("keeps its lines, says how many it could not keep, and goes on when there is room", () => {
    // A pipe that nobody reads, and that doesn't make its writer wait: full, like a disk.
    const path = join(folder, "pipe");
    execFileSync("mkfifo", [path]);
    const pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const log = realLog({ name: "n", level: "info", descriptor: pipe });
    let written = 0;
    const write = (count: number) => {
      for (let i = 0; i < count; i++) log.info("line", { number: written++, filled });
    };
    write(8_000);
    const seen: { number?: number; lines?: number }[] = [];
    let rest = "";
    const readAll = () => {
      const chunk = Buffer.alloc(65_536);
      for (let size = readIfAny(pipe, chunk); size > 0; size = readIfAny(pipe, chunk))
        rest += chunk.toString("utf8", 0, size);
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) seen.push(JSON.parse(line));
    };
    for (let i = 0; i < 100 && !seen.some(({ lines }) => lines !== undefined); i++) {
      readAll();
      write(1);
    }
    readAll();
    const numbers = seen.flatMap(({ number }) => number ?? []);
    const lost = seen.reduce((sum, { lines = 0 }) => sum + lines, 0);
    expect(lost).toBeGreaterThan(0);
    expect(numbers.length + lost).toBe(written);
    expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    closeSync(pipe);
  });

  it("does not end who writes it", () => {
    const log = realLog({ name: "n", level: "info", descriptor: openSync("/dev/full", "w") });
    expect(() => {
      for (let i = 0; i < 3; i++) log.error("no room", { filled });
    }).not.toThrow();
  });
});

/** Bytes read into `chunk`; 0 where the pipe is empty. */
function readIfAny(pipe: number, chunk: Buffer): number {
  try {
    return readSync(pipe, chunk);
  } catch {
    return 0;
  }
}

describe("timers", () => {
  it("call back once, and not at all where they were cancelled", async () => {
    const called: string[] = [];
    realTimers.after(1, () => called.push("cancelled"))();
    await new Promise<void>((resolve) => {
      realTimers.after(5, () => {
        called.push("called");
        resolve();
      });
      // Timers of the world don't keep the process alive; the test's own does.
      setTimeout(() => undefined, 1_000);
    });
    expect(called).toEqual(["called"]);
  });
});
