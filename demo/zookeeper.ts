// A real ZooKeeper of one member, from the system's jars, for `--zookeeper`.

import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { freePorts, type Started, start, tailOf } from "./processes.ts";

const jars = ["/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-log4j12.jar", "/usr/share/java/log4j-1.2.jar"];

/** A quarter of the shortest session that the demonstration asks for: the server grants two ticks at least. */
const tickMs = 1_000;

export interface ZooKeeper {
  readonly address: string;
  readonly started: Started;
}

export async function startZooKeeper(folder: string): Promise<ZooKeeper> {
  const home = join(folder, "zookeeper");
  mkdirSync(join(home, "data"), { recursive: true });
  const port = await freePorts(1, 2181);
  writeFileSync(
    join(home, "zoo.cfg"),
    [
      `dataDir=${home}/data`,
      `clientPort=${port}`,
      "clientPortAddress=127.0.0.1",
      "admin.enableServer=false",
      `tickTime=${tickMs}`,
      "4lw.commands.whitelist=ruok",
    ].join("\n"),
  );
  writeFileSync(
    join(home, "log4j.properties"),
    "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\nlog4j.appender.out.layout=org.apache.log4j.SimpleLayout\n",
  );
  const log = join(home, "zookeeper.log");
  const java = [
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-cp",
    [home, ...jars.filter((jar) => existsSync(jar))].join(":"),
  ];
  const started = start("java", [...java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", join(home, "zoo.cfg")], {
    cwd: home,
    log,
  });
  const address = `127.0.0.1:${port}`;
  for (let tries = 0; !(await isUp(port)); tries++) {
    if (tries > 300) throw new Error(`ZooKeeper does not answer:\n${tailOf(log, 10).join("\n")}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { address, started };
}

function isUp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => socket.write("ruok"));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.on("data", (data) => {
      resolve(data.toString("latin1").startsWith("imok"));
      socket.destroy();
    });
    socket.on("error", () => resolve(false));
    socket.on("close", () => resolve(false));
  });
}
