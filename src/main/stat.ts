// manatee-stat.

import { runStat } from "../admin/stat.ts";
import { adminContext, runTool } from "./admin-context.ts";

export function main(args: readonly string[]): Promise<void> {
  return runTool(() => runStat(args, adminContext("manatee-stat")));
}
