import type { Command } from "commander";
import { examples } from "../output.ts";
import type { Run } from "../program.ts";

export function define(command: Command, run: Run): void {
  command.addHelpText("after", examples("version")).action(
    run(async ({ terminal, version }) => {
      terminal.print(version);
      return 0;
    }),
  );
}
