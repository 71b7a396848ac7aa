// A real ZooKeeper for tests: one server or an ensemble, on loopback, in a folder of the caller's, that can be killed, frozen and
// restarted. Needs java and Debian's zookeeper jars; `zooKeeperInstalled` says whether they are there.

import { spawn, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";

export interface ZooKeeperServer {
  /** `ADDRESS:PORT` */
  readonly connectString: string;
  readonly port: number;
  /** Of the TLS port, where `tls` was given. */
  readonly tlsPort: number | undefined;
  /** Of the java process; undefined while it is not running. */
  readonly pid: number | undefined;
  /** Ends it in order (SIGTERM, after 5 s SIGKILL). Its data stay in the folder. Idempotent. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: the kernel goes on to accept connections, nobody answers. */
  freeze(): void;
  thaw(): void;
  /** Starts it (after a `kill` where it still runs) on the same port and data; resolves when it answers. */
  restart(): Promise<void>;
  /** As `restart`, without waiting for it to answer: for members of an ensemble that has no majority yet. */
  launch(): Promise<void>;
  /** Resolves when it serves clients; rejects after 60 s. */
  ready(): Promise<void>;
  /** Answer to a four-letter word (`srvr`, `cons`, `wchs`); undefined: none within 2 s. */
  ask(word: string): Promise<string | undefined>;
}

export interface ZooKeeperOptions {
  /** Made where it is missing; holds configuration, data and log. The caller removes it. */
  readonly dir: string;
  readonly port?: number;
  /** Default: loopback. */
  readonly address?: string;
  /** Sessions last between 2 and 20 ticks. 500 ms where not given: sessions from 1 s to 10 s. */
  readonly tickTimeMs?: number;
  readonly ensemble?: { readonly id: number; readonly members: readonly EnsembleMember[] };
  /** PEM files: a second port with TLS that demands a client certificate of this authority. */
  readonly tls?: { readonly caFile: string; readonly certFile: string; readonly keyFile: string };
  /** More lines for zoo.cfg. */
  readonly settings?: Readonly<Record<string, string>>;
  /** More system properties (`-Dname=value`). */
  readonly properties?: Readonly<Record<string, string>>;
}

export interface EnsembleMember {
  readonly id: number;
  readonly peerPort: number;
  readonly electionPort: number;
}

const JARS = "/usr/share/java";
const JAR_NAMES = [
  "zookeeper",
  "zookeeper-jute",
  "slf4j-api",
  "slf4j-log4j12",
  "log4j-1.2",
  "netty-codec",
  "netty-resolver",
  "netty-transport-native-unix-common",
  "netty-transport-native-epoll",
  "netty-transport",
  "netty-handler",
  "netty-buffer",
  "netty-common",
];
const LOOPBACK = "127.0.0.1";
const READY_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 5000;
/** Kills the child when the test process dies, however it dies. */
const SETPRIV = "/usr/bin/setpriv";

/** Whether this machine can run the tests that need a real ZooKeeper. */
export const zooKeeperInstalled: boolean =
  existsSync(join(JARS, "zookeeper.jar")) && existsSync("/usr/bin/java") && existsSync(join(JARS, "slf4j-log4j12.jar"));

const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export async function startZooKeeper(options: ZooKeeperOptions): Promise<ZooKeeperServer> {
  const server = await prepare(options);
  await server.launch();
  try {
    await server.ready();
  } catch (error) {
    await server.kill();
    throw error;
  }
  return server;
}

export interface ZooKeeperEnsemble {
  /** Of all members. */
  readonly connectString: string;
  readonly members: readonly ZooKeeperServer[];
  stop(): Promise<void>;
  /** The member that leads; undefined: none answers that it does. */
  leader(): Promise<ZooKeeperServer | undefined>;
}

export async function startEnsemble(
  count: number,
  options: Omit<ZooKeeperOptions, "ensemble" | "port">,
): Promise<ZooKeeperEnsemble> {
  const roster: EnsembleMember[] = [];
  for (let id = 1; id <= count; id++) roster.push({ id, peerPort: await freePort(), electionPort: await freePort() });
  const members: ZooKeeperServer[] = [];
  for (const { id } of roster)
    members.push(
      await prepare({ ...options, dir: join(options.dir, `member-${id}`), ensemble: { id, members: roster } }),
    );
  const stop = async (): Promise<void> => {
    await Promise.all(members.map((member) => member.stop()));
  };
  await Promise.all(members.map((member) => member.launch()));
  try {
    await Promise.all(members.map((member) => member.ready()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    connectString: members.map((member) => member.connectString).join(","),
    members,
    stop,
    async leader() {
      for (const member of members) if ((await member.ask("srvr"))?.includes("Mode: leader")) return member;
      return undefined;
    },
  };
}

/**
 * A port of loopback that nobody listens on, below the range from which the kernel takes ports for outgoing connections: a client that
 * tries a dead server of that range again and again ends up connected to itself, and the server can't come back.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (await bindable(port)) return port;
  }
  throw new Error("no free port found in 200 attempts");
}

function bindable(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

async function prepare(options: ZooKeeperOptions): Promise<ZooKeeperServer> {
  const port = options.port ?? (await freePort());
  const tlsPort = options.tls === undefined ? undefined : await freePort();
  await mkdir(join(options.dir, "data"), { recursive: true });
  await writeFile(join(options.dir, "zoo.cfg"), await configuration(options, port, tlsPort));
  await writeFile(join(options.dir, "log4j.properties"), LOG_CONFIGURATION);
  if (options.ensemble !== undefined) await writeFile(join(options.dir, "data", "myid"), `${options.ensemble.id}\n`);
  return serverOf(options, port, tlsPort);
}

const LOG_CONFIGURATION = `log4j.rootLogger=INFO, OUT
log4j.appender.OUT=org.apache.log4j.ConsoleAppender
log4j.appender.OUT.layout=org.apache.log4j.PatternLayout
log4j.appender.OUT.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
`;

async function configuration(
  { dir, address = LOOPBACK, tickTimeMs = 500, ensemble, tls, settings }: ZooKeeperOptions,
  port: number,
  tlsPort: number | undefined,
): Promise<string> {
  const lines = [
    `tickTime=${tickTimeMs}`,
    `dataDir=${join(dir, "data")}`,
    `clientPort=${port}`,
    `clientPortAddress=${address}`,
    "admin.enableServer=false",
    "4lw.commands.whitelist=*",
    "maxClientCnxns=0",
    // A busy machine must not lose its leader by it: in units of a tick, here 10 s at the least.
    `initLimit=${Math.ceil(20_000 / tickTimeMs)}`,
    `syncLimit=${Math.ceil(10_000 / tickTimeMs)}`,
  ];
  if (ensemble !== undefined)
    for (const { id, peerPort, electionPort } of ensemble.members)
      lines.push(`server.${id}=127.0.0.1:${peerPort}:${electionPort}`);
  if (tls !== undefined) {
    const keyStore = join(dir, "key-store.pem");
    const parts = await Promise.all([readFile(tls.keyFile, "utf8"), readFile(tls.certFile, "utf8")]);
    await writeFile(keyStore, parts.join("\n"), { mode: 0o600 });
    lines.push(
      `secureClientPort=${tlsPort}`,
      "secureClientPortAddress=127.0.0.1",
      "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
      `ssl.keyStore.location=${keyStore}`,
      "ssl.keyStore.type=PEM",
      `ssl.trustStore.location=${tls.caFile}`,
      "ssl.trustStore.type=PEM",
      "ssl.clientAuth=need",
    );
  }
  for (const [name, value] of Object.entries(settings ?? {})) lines.push(`${name}=${value}`);
  return `${lines.join("\n")}\n`;
}

function serverOf(options: ZooKeeperOptions, port: number, tlsPort: number | undefined): ZooKeeperServer {
  let child: ChildProcess | undefined;
  let gone: Promise<void> = Promise.resolve();
  const { dir, address = LOOPBACK } = options;

  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const target = child;
    if (target === undefined) return;
    // A stopped process takes no SIGTERM.
    if (signal !== "SIGKILL") target.kill("SIGCONT");
    target.kill(signal);
    const timer = setTimeout(() => target.kill("SIGKILL"), STOP_LIMIT_MS);
    await gone;
    clearTimeout(timer);
  };

  const server: ZooKeeperServer = {
    connectString: `${address}:${port}`,
    port,
    tlsPort,
    get pid() {
      return child?.pid;
    },
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    freeze: () => void child?.kill("SIGSTOP"),
    thaw: () => void child?.kill("SIGCONT"),
    async launch() {
      await end("SIGKILL");
      const log = await open(join(dir, "zookeeper.log"), "a");
      const started = spawnServer(options, log.fd);
      await log.close();
      child = started;
      running.add(started);
      gone = new Promise((resolve) => {
        const over = (): void => {
          running.delete(started);
          if (child === started) child = undefined;
          resolve();
        };
        started.once("exit", over);
        started.once("error", over);
      });
    },
    async restart() {
      await server.launch();
      await server.ready();
    },
    async ready() {
      const limit = Date.now() + READY_LIMIT_MS;
      while (child !== undefined && Date.now() < limit) {
        if ((await server.ask("srvr"))?.includes("Mode: ")) return;
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      const log = await readFile(join(dir, "zookeeper.log"), "utf8");
      throw new Error(`ZooKeeper on port ${port} did not get ready; the end of its log:\n${log.slice(-3000)}`);
    },
    ask: (word) => fourLetterWord({ host: address, port }, word),
  };
  return server;
}

function spawnServer({ dir, properties }: ZooKeeperOptions, logFd: number): ChildProcess {
  const java = [
    "java",
    "-Xmx160m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dzookeeper.forceSync=no",
    ...Object.entries(properties ?? {}).map(([name, value]) => `-D${name}=${value}`),
    "-cp",
    [dir, ...JAR_NAMES.map((name) => join(JARS, `${name}.jar`)).filter((path) => existsSync(path))].join(":"),
    "org.apache.zookeeper.server.quorum.QuorumPeerMain",
    join(dir, "zoo.cfg"),
  ];
  const [command = "java", ...args] = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", ...java] : java;
  return spawn(command, args, { cwd: dir, stdio: ["ignore", logFd, logFd] });
}

function fourLetterWord(server: { host: string; port: number }, word: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(server);
    const timer = setTimeout(() => socket.destroy(), 2000);
    let answer = "";
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(word));
    socket.on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer === "" ? undefined : answer);
    });
  });
}
