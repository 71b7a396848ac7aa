// Once per run: a compiled copy of the product for the unprivileged user.

import { buildRuntime, removeRuntime } from "../support/runtime.ts";

export async function setup(): Promise<() => Promise<void>> {
  const runtime = await buildRuntime();
  return () => removeRuntime(runtime);
}
