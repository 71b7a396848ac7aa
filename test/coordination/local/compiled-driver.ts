// The driver as users run it, compiled: only so does it start a process of its own on every supported Node.

import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import type { LocalStoreOptions } from "../../../src/coordination/local/driver.ts";
import type { Coordination } from "../../../src/coordination/port.ts";

export interface CompiledDriver {
  readonly localStore: (options: LocalStoreOptions) => Coordination;
  readonly storeProcess: (directory: string) => Promise<number | undefined>;
  /** URL of the compiled driver.js, for scripts. */
  readonly url: string;
  /** URL of the compiled src/world/real/clock.js. */
  readonly clockUrl: string;
  readonly serverProgram: string;
  remove(): Promise<void>;
}

export async function compileDriver(): Promise<CompiledDriver> {
  const root = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");
  const folder = await mkdtemp(join(tmpdir(), "manatee-local-compiled-"));
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  await writeFile(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.build.json"),
      compilerOptions: { outDir: join(folder, "dist"), rootDir: root, sourceMap: false },
      files: [join(root, "src/coordination/local/driver.ts"), join(root, "src/world/real/clock.ts")],
      include: [],
    }),
  );
  await promisify(execFile)(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", folder]);
  const local = join(folder, "dist/src/coordination/local");
  const url = pathToFileURL(join(local, "driver.js")).href;
  const module = (await import(/* @vite-ignore */ url)) as Pick<CompiledDriver, "localStore" | "storeProcess">;
  return {
    localStore: module.localStore,
    storeProcess: module.storeProcess,
    url,
    clockUrl: pathToFileURL(join(folder, "dist/src/world/real/clock.js")).href,
    serverProgram: join(local, "server-process.js"),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
