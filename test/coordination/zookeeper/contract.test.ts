// The contract of the coordination port, kept against a real ZooKeeper: directly, and with a chroot and a user of its own.

import { afterAll, beforeAll, describe } from "vitest";
import { zookeeper } from "../../../src/coordination/zookeeper/driver.ts";
import { coordinationContract, type CoordinationFixture } from "../../contracts/coordination.ts";
import { startZooKeeper, zooKeeperInstalled, type ZooKeeperServer } from "../../support/zookeeper-server.ts";
import { clock, countedTimers, keptLog, random, temporaryFolder, type Folder } from "./harness.ts";
import { startProxy } from "./proxy.ts";

describe.skipIf(!zooKeeperInstalled)("with a real ZooKeeper", () => {
  let folder: Folder;
  let server: ZooKeeperServer;
  let count = 0;

  beforeAll(async () => {
    folder = await temporaryFolder();
    server = await startZooKeeper({ dir: folder.path });
  });
  afterAll(async () => {
    await server?.stop();
    await folder?.remove();
  });

  const fixture = async (chroot: string, digest?: string): Promise<CoordinationFixture> => {
    const proxy = await startProxy(server.port);
    const by = (connectString: string) =>
      zookeeper({
        connectString: connectString + chroot,
        ...(digest === undefined ? {} : { digest }),
        log: keptLog(),
        clock,
        timers: countedTimers(),
        random,
      });
    return {
      coordination: by(proxy.connectString),
      other: by(server.connectString),
      sessionTimeoutMs: 2000,
      root: `/contract-${++count}`,
      cut() {
        proxy.refuse();
        proxy.cut();
      },
      restore: () => proxy.heal(),
      dispose: () => proxy.stop(),
    };
  };

  coordinationContract("zookeeper", () => fixture(""));
  coordinationContract("zookeeper with a chroot and a user", () => fixture("/deep/chroot", "sitter:secret"));
});
