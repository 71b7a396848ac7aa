// manatee-adm.

import { runAdmin } from "../admin/program.ts";
import { adminContext, runTool } from "./admin-context.ts";

export function main(args: readonly string[]): Promise<void> {
  return runTool(() => runAdmin(args, adminContext("manatee-adm")));
}
