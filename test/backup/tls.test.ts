import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type BackupFixture, type FixtureOptions, startBackupServer } from "../support/backup.ts";
import { fakeStorage } from "./fake-storage.ts";

const run = promisify(execFile);

let folder: string;
let servers: BackupFixture[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-backup-tls-"));
});

afterEach(async () => {
  for (const server of servers) await server.close();
  servers = [];
  rmSync(folder, { recursive: true, force: true });
});

/** A certificate that vouches for itself, for that address. */
async function certificate(name: string, address: string): Promise<{ certFile: string; keyFile: string }> {
  const certFile = join(folder, `${name}.pem`);
  const keyFile = join(folder, `${name}.key`);
  const how = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" ");
  const what = [
    "-subj",
    `/CN=${name}`,
    "-addext",
    `subjectAltName=IP:${address}`,
    "-keyout",
    keyFile,
    "-out",
    certFile,
  ];
  await run("openssl", [...how, ...what], { timeout: 20_000 });
  return { certFile, keyFile };
}

async function start(tls: FixtureOptions["tls"]): Promise<BackupFixture> {
  const storage = fakeStorage({
    s1: async function* () {
      for (let i = 0; i < 50; i++) yield await Promise.resolve(new Uint8Array(100_000).fill(i));
    },
  });
  const server = await startBackupServer({ storage, tls });
  servers.push(server);
  return server;
}

async function fetchAll(server: BackupFixture, authority: string | undefined): Promise<number> {
  let bytes = 0;
  const client = server.client({ tls: authority === undefined ? undefined : { authority } });
  const asked = { snapshot: { name: "s1", guid: "guid-s1" }, signal: new AbortController().signal };
  for await (const chunk of client.fetch(asked)) bytes += chunk.length;
  return bytes;
}

describe("a backup server with TLS", () => {
  it("sends to who trusts its certificate, and to nobody else", async () => {
    const own = await certificate("own", "127.0.0.1");
    const other = await certificate("other", "127.0.0.1");
    const server = await start(own);
    expect(await fetchAll(server, readFileSync(own.certFile, "utf8"))).toBe(5_000_000);
    const unreachable = { code: "BACKUP_UNREACHABLE" };
    await expect(fetchAll(server, readFileSync(other.certFile, "utf8"))).rejects.toMatchObject(unreachable);
    await expect(fetchAll(server, undefined)).rejects.toMatchObject(unreachable);
  });

  it("is not believed under another address than its certificate's", async () => {
    const own = await certificate("own", "192.0.2.1");
    const server = await start(own);
    await expect(fetchAll(server, readFileSync(own.certFile, "utf8"))).rejects.toMatchObject({
      code: "BACKUP_UNREACHABLE",
    });
  });

  it("says which files it can't read, and which don't belong together", async () => {
    const missing = { certFile: join(folder, "none.pem"), keyFile: join(folder, "none.key") };
    await expect(start(missing)).rejects.toMatchObject({ code: "BACKUP_TLS_FILES" });
    const { certFile } = await certificate("own", "127.0.0.1");
    const { keyFile } = await certificate("other", "127.0.0.1");
    await expect(start({ certFile, keyFile })).rejects.toMatchObject({ code: "BACKUP_TLS_FILES" });
  });
});
