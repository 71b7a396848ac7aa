// The driver as users run it, compiled: only so does it start a process of its own on every supported Node.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { LocalStoreOptions } from "../../../src/coordination/local/driver.ts";
import type { Coordination } from "../../../src/coordination/port.ts";
import { compile } from "../../support/compile.ts";

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
  const { folder, remove } = await compile(["src/coordination/local/driver.ts", "src/world/real/clock.ts"]);
  const local = join(folder, "src/coordination/local");
  const url = pathToFileURL(join(local, "driver.js")).href;
  const module = (await import(/* @vite-ignore */ url)) as Pick<CompiledDriver, "localStore" | "storeProcess">;
  return {
    localStore: module.localStore,
    storeProcess: module.storeProcess,
    url,
    clockUrl: pathToFileURL(join(folder, "src/world/real/clock.js")).href,
    serverProgram: join(local, "server-process.js"),
    remove,
  };
}
