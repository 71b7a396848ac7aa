// The backup server on a real ZFS: a snapshot is taken on demand, with its position, and arrives whole in another dataset. Called in contract.test.ts.

import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { receiveSnapshot } from "../../../src/backup/receive.ts";
import { formatLsn, lsn } from "../../../src/base/lsn.ts";
import { runBackupServer, type RunningBackupServer } from "../../../src/main/run-backupserver.ts";
import { decodeFacts } from "../../../src/snapshots/facts.ts";
import type { Dataset, Storage } from "../../../src/storage/port.ts";
import { zfsStorage } from "../../../src/storage/zfs/driver.ts";
import { realTimers } from "../../../src/world/real/clock.ts";
import { realWorld } from "../../../src/world/real/world.ts";
import { PASSWORD, quietLog, realBackupClient } from "../../support/backup.ts";
import { openZfsPool, type ZfsPool } from "../../support/zfs-pool.ts";

export function backupServerOnZfs(): void {
  let pool: ZfsPool;
  let storage: Storage;
  let dataset: Dataset;
  let sitter: Server;
  let server: RunningBackupServer;

  beforeAll(async () => {
    pool = await openZfsPool({ megabytes: 128 });
    storage = zfsStorage({ program: pool.program, timers: realTimers });
    dataset = await storage.create(`${pool.name}/pg`);
    const credentialFile = join(pool.folder, "replication-password");
    await writeFile(credentialFile, PASSWORD, { mode: 0o600 });
    sitter = await statusService();
    server = await runBackupServer(
      {
        dataset: dataset.name,
        zfsPath: pool.program,
        btrfsRoot: undefined,
        directoryRoot: undefined,
        sudo: undefined,
        host: "127.0.0.1",
        port: 0,
        sitter: { host: "127.0.0.1", port: (sitter.address() as AddressInfo).port },
        credentialFile,
        tls: undefined,
        bytesPerSecondMax: undefined,
        sendingMax: 2,
        waitingMax: 2,
        stallLimitMs: 30_000,
        openToAll: false,
      },
      storage,
      { ...realWorld({ name: "test", level: "error" }), log: quietLog },
    );
  });
  afterAll(async () => {
    await server?.stop();
    sitter?.close();
    await pool?.close();
  });

  it("takes one, says what it can hold at most, and sends it whole", async () => {
    const content = randomBytes(4 * 1024 * 1024);
    await writeFile(join(dataset.folder, "relation"), content);
    const client = realBackupClient({ port: server.port });
    const { signal } = new AbortController();
    const taken = await client.takeNow({ signal });
    await writeFile(join(dataset.folder, "relation"), "later");
    const [kept] = await storage.snapshots(dataset.name);
    expect(decodeFacts(kept?.properties ?? {})).toMatchObject({
      timeline: 3,
      systemIdentifier: "77",
      role: "async",
      generation: 9,
    });
    // The sitter's position grows with each look: the first after the snapshot may have begun before it.
    const target = `${pool.name}/copy`;
    const came = await receiveSnapshot({
      client,
      storage,
      dataset: target,
      snapshot: taken,
      signal,
      timers: realTimers,
      log: quietLog,
    });
    expect(came.guid).toBe(kept?.guid);
    const copy = await storage.mount(target);
    const arrived = await readFile(join(copy.folder, "relation"));
    expect(hash(arrived)).toBe(hash(content));
    expect((await storage.snapshots(dataset.name))[0]?.holds).toEqual([]);
  });
}

/** Of a sitter that looks whenever it is asked. */
async function statusService(): Promise<Server> {
  let looks = 0n;
  const service = createServer((_request, response) => {
    looks += 1n;
    const postgres = { lastCheck: new Date().toISOString(), timeline: 3, walEnd: formatLsn(lsn(looks)) };
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        generation: 9,
        role: "async",
        systemIdentifier: "77",
        incarnation: "one",
        lastDocument: null,
        postgres,
      }),
    );
  });
  await new Promise<void>((resolve) => service.listen(0, "127.0.0.1", resolve));
  return service;
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
