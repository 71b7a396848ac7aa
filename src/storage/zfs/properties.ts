// Reads what `zfs get -Hp` prints: one line a property, `NAME PROPERTY VALUE SOURCE` with tabs.

import type { Dataset, Properties, Snapshot, SnapshotName } from "../port.ts";

/** Value and source of each property, by name of dataset or snapshot. */
export type Table = ReadonlyMap<string, ReadonlyMap<string, { readonly value: string; readonly source: string }>>;

/** Tags of holds stand in properties as well, in hexadecimal: not every zfs can list its holds, and names of properties know no capitals. */
export const HOLD_PREFIX = "manatee:hold.";

export function holdProperty(tag: string): string {
  return HOLD_PREFIX + Buffer.from(tag, "utf8").toString("hex");
}

export const COLUMNS = ["-Hp", "-o", "name,property,value,source"] as const;

export function parseTable(output: string): Table {
  const table = new Map<string, Map<string, { value: string; source: string }>>();
  for (const line of output.split("\n")) {
    const [name, property, value, source] = line.split("\t");
    if (name === undefined || property === undefined || value === undefined || source === undefined) continue;
    let row = table.get(name);
    if (row === undefined) table.set(name, (row = new Map()));
    row.set(property, { value, source });
  }
  return table;
}

type Row = NonNullable<ReturnType<Table["get"]>>;

export function datasetOf(name: string, row: Row): Dataset {
  const origin = row.get("origin")?.value ?? "-";
  return {
    name,
    folder: row.get("mountpoint")?.value ?? "-",
    mounted: row.get("mounted")?.value === "yes",
    origin: origin === "-" || origin === "" ? undefined : parseSnapshotName(origin),
    properties: ownProperties(row),
  };
}

export function snapshotOf(
  name: string,
  row: Row,
  { guid, holds }: { guid: string; holds: readonly string[] },
): Snapshot {
  const number = (property: string): number | undefined => {
    const value = Number(row.get(property)?.value ?? "-");
    return Number.isFinite(value) ? value : undefined;
  };
  return {
    ...parseSnapshotName(name),
    guid,
    createdWallMs: (number("creation") ?? 0) * 1000,
    properties: ownProperties(row),
    holds,
    ownBytes: number("used"),
    referencedBytes: number("referenced"),
  };
}

export function holdsOf(row: Row): readonly string[] {
  return [...row.entries()]
    .filter(([property, { source }]) => property.startsWith(HOLD_PREFIX) && source === "local")
    .map(([property]) => Buffer.from(property.slice(HOLD_PREFIX.length), "hex").toString("utf8"));
}

/** Set on it itself: a snapshot inherits what was set on its dataset. */
function ownProperties(row: Row): Properties {
  return Object.fromEntries(
    [...row.entries()]
      .filter(
        ([property, { source }]) => property.includes(":") && source === "local" && !property.startsWith(HOLD_PREFIX),
      )
      .map(([property, { value }]) => [property, value]),
  );
}

function parseSnapshotName(full: string): SnapshotName {
  const at = full.indexOf("@");
  return { dataset: full.slice(0, at), name: full.slice(at + 1) };
}
