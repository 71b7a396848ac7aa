import type { Terminal } from "./context.ts";
import { paint } from "./paint.ts";
import { type Column, formatTable, type TableOptions } from "./table.ts";

/** Prints a table; on a terminal the header stands out. */
export function printTable<Row>(
  terminal: Terminal,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions = {},
): void {
  for (const [at, line] of formatTable(columns, rows, options).entries())
    terminal.print(at === 0 && options.omitHeader !== true ? paint(terminal.colour, "bold", line) : line);
}

/** Adds examples below a command's help. */
export function examples(...lines: readonly string[]): string {
  return `\nExample${lines.length === 1 ? "" : "s"}:\n${lines.map((line) => `  manatee-adm ${line}`).join("\n")}`;
}
