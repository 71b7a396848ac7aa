import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { main } from "../../src/main/backupserver.ts";
import type { Storage } from "../../src/storage/port.ts";
import { DATASET } from "../support/backup.ts";
import { fakeStorage } from "./fake-storage.ts";

let folder: string;
let out: string[];
let err: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-backup-main-"));
  out = [];
  err = [];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => Boolean(out.push(String(text))));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => Boolean(err.push(String(text))));
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

function file(server: object, { mode = 0o600 } = {}): string {
  const credentialFile = join(folder, "password");
  writeFileSync(credentialFile, "secret\n", { mode });
  const path = join(folder, "backupserver.json");
  const backupServerCfg = { port: 12345, host: "127.0.0.1", sitterPort: 1, credentialFile, ...server };
  writeFileSync(path, JSON.stringify({ backupSenderCfg: { dataset: DATASET }, backupServerCfg }));
  return path;
}

function storageWith(look: Storage["look"]): Storage {
  return Object.assign(fakeStorage({ s1: () => (async function* () {})() }), { description: "a test's", look });
}

const there = storageWith((name) =>
  Promise.resolve({ name, folder: "/data/pg", mounted: true, origin: undefined, properties: {} }),
);

describe("manatee-backupserver", () => {
  it("says with --check what its file means and whether the machine fits", async () => {
    expect(await main(["-f", file({}), "--check"], () => there)).toBe(0);
    expect(out.join("")).toMatch(/dataset +tank\/pg \(a test's\)\nlistens +http:\/\/127\.0\.0\.1:12345\/\n/);
    expect(out.join("")).toMatch(/streams +zfs: atomic, incremental, resume\nsnapshots +1\n/);
    expect(err.join("")).toContain("warning: the sitter's status service at 127.0.0.1:1 does not tell");
  });

  it.each([
    ["the dataset is not there", {}, {}, storageWith(() => Promise.resolve(undefined)), "dataset tank/pg is not there"],
    ["others can read the password", {}, { mode: 0o644 }, there, "can be read by others"],
    ["there is no certificate", { tls: { certFile: "/none", keyFile: "/none" } }, {}, there, "tls.certFile"],
  ])("fails with --check where %s, and says what to do", async (_, server, mode, storage, complaint) => {
    expect(await main(["-f", file(server, mode), "--check"], () => storage)).toBe(1);
    expect(err.join("")).toContain(complaint);
  });

  it("ends with every problem of its file, and with its usage where there is none", async () => {
    const none = () => {
      throw new Error("not asked for");
    };
    expect(await main(["-f", file({ ports: 1, queueMax: -1 })], none)).toBe(1);
    expect(err.join("")).toMatch(/backupServerCfg\.ports .*did you mean backupServerCfg\.port\?/);
    expect(err.join("")).toContain("backupServerCfg.queueMax");
    expect(await main(["-f", join(folder, "none.json")], none)).toBe(1);
    expect(err.join("")).toContain("none.json cannot be read: ENOENT");
    expect(err.join("")).toContain("CONFIG_UNREADABLE");
    expect(await main([], none)).toBe(2);
    expect(err.join("")).toContain("option is required: --file");
  });
});
