import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { main } from "../../src/main/sitter.ts";

let folder: string;
let out: string[];
let err: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "manatee-sitter-main-"));
  out = [];
  err = [];
  vi.stubEnv("MANATEE_SITTER_CONFIG", undefined);
  vi.spyOn(process.stdout, "write").mockImplementation((text) => Boolean(out.push(String(text))));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => Boolean(err.push(String(text))));
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

function file(change: object = {}): string {
  const path = join(folder, "sitter.json");
  writeFileSync(
    path,
    JSON.stringify({
      ip: "127.0.0.1",
      zoneId: "peer1",
      shardPath: "/manatee/1",
      zkCfg: { connStr: "127.0.0.1:2181" },
      postgres: { dataDir: join(folder, "data") },
      ...change,
    }),
  );
  return path;
}

describe("manatee-sitter", () => {
  it("refuses to run as root, and says as whom instead", async () => {
    vi.spyOn(process, "getuid").mockReturnValue(0);
    expect(await main(["-f", file()])).toBe(1);
    expect(err.join("")).toContain("must not run as root");
    expect(err.join("")).toContain("sudo -u postgres manatee-sitter");
  });

  it("--help teaches, with examples, the environment and the signals, and ends with 0", async () => {
    vi.spyOn(process, "exit").mockImplementation((status) => {
      throw new Error(`ends with ${status}`);
    });
    await expect(main(["--help"])).rejects.toThrow("ends with 0");
    const text = out.join("");
    expect(text).toMatch(/^Usage: manatee-sitter \[options\]/);
    for (const option of ["-f, --file <CONFIG>", "-v, --verbose", "--check", "-h, --help"])
      expect(text).toContain(option);
    expect(text).toContain("Examples:\n  sudo -u postgres manatee-sitter -f /etc/manatee/sitter.json");
    for (const name of ["MANATEE_SITTER_CONFIG", "ZK_IPS", "LOG_LEVEL", "SIGTERM", "SIGUSR2", "SIGHUP"])
      expect(text).toContain(name);
    expect(err).toEqual([]);
  });

  it("explains with --check what is in force", async () => {
    await main(["-f", file(), "--check"]);
    expect(out.join("")).toContain("/manatee/1");
    expect(out.join("")).toContain(join(folder, "data"));
  });

  it("warns with --check of an address that this machine has not", async () => {
    await main(["-f", file({ ip: "192.0.2.1" }), "--check"]);
    expect(err.join("")).toContain("warning: ip: 192.0.2.1 is not an address of this machine, which has ");
    err.length = 0;
    await main(["-f", file(), "--check"]);
    expect(err.join("")).not.toContain("address of this machine");
  });

  it("names every problem of its file, with a suggestion, and changes nothing", async () => {
    expect(await main(["-f", file({ postgressPort: 1, shardPath: "manatee" }), "--check"])).toBe(1);
    expect(err.join("")).toMatch(/postgressPort .*did you mean postgresPort\?/);
    expect(err.join("")).toContain("shardPath");
  });

  it("ends with its usage where no file is named, and with the reason where there is none", async () => {
    expect(await main([])).toBe(2);
    expect(err.join("")).toContain("option is required: --file");
    expect(await main(["-f", join(folder, "none.json"), "--check"])).toBe(1);
    expect(err.join("")).toContain(`${join(folder, "none.json")} cannot be read: ENOENT`);
    expect(err.join("")).toMatch(/name the configuration with -f: .*; CONFIG_UNREADABLE\)\n$/);
    // A folder; one that may not be read is told alike.
    expect(await main(["-f", folder, "--check"])).toBe(1);
    expect(err.join("")).toMatch(
      /give the user that runs this process read access to that file; CONFIG_UNREADABLE\)\n$/,
    );
  });
});
