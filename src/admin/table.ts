// Tables of fixed width, as the original prints them: programs cut them at white space.

import { nearest } from "../config/suggest.ts";
import { WrongUse } from "./wrong-use.ts";

export interface Column<Row> {
  /** As `-o` names it. */
  readonly name: string;
  readonly label: string;
  readonly width: number;
  readonly align?: "right";
  readonly value: (row: Row) => string;
}

export interface TableOptions {
  readonly omitHeader?: boolean;
}

export function formatTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions = {},
): string[] {
  const line = (cell: (column: Column<Row>) => string) =>
    columns
      .map((column) =>
        column.align === "right" ? cell(column).padStart(column.width) : cell(column).padEnd(column.width),
      )
      .join(" ");
  const header = options.omitHeader === true ? [] : [line(({ label }) => label)];
  // An empty cell would shift the rest for whoever cuts at white space.
  return [...header, ...rows.map((row) => line(({ value }) => value(row) || "-"))];
}

/** Rows as JSON: `-o json`. Missing values are null. */
export function tableJson<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const objects = rows.map((row) => Object.fromEntries(columns.map(({ name, value }) => [name, noneOf(value(row))])));
  return JSON.stringify(objects, undefined, 2);
}

function noneOf(value: string): string | null {
  return value === "" || value === "-" ? null : value;
}

/** `-o a,b -o c`, each a known column. */
export function chooseColumns<Row>(given: readonly string[], all: readonly Column<Row>[]): Column<Row>[] {
  const names = given.flatMap((list) => list.split(",")).map((name) => name.trim());
  return names.map((name) => {
    const column = all.find((each) => each.name === name);
    if (column !== undefined) return column;
    const known = all.map((each) => each.name);
    const meant = nearest(name, [...known, "json"]);
    throw new WrongUse(
      `unknown column "${name}"${meant === undefined ? "" : `, did you mean ${meant}?`} (known: ${known.join(", ")})`,
    );
  });
}

/** For options that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export function isJson(columns: readonly string[] | undefined): boolean {
  return columns?.length === 1 && columns[0] === "json";
}
