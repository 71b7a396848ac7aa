// Timeline history files in pg_wal: read as a Lineage, and the placeholders that keep PostgreSQL from taking a number twice.
// PostgreSQL promotes to the first number above its own whose history file it can't find, also one that another peer has used.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Lineage, TimelineSegment, WalPoint } from "../../base/lineage.ts";
import { parseLsn, type Timeline } from "../../base/lsn.ts";
import { flushFolder, readIfThere, removeDurably, writeDurably } from "./durable.ts";

export function historyFileName(timeline: Timeline): string {
  return `${timelineName(timeline)}.history`;
}

/** As names of files in pg_wal begin. */
function timelineName(timeline: Timeline): string {
  return timeline.toString(16).toUpperCase().padStart(8, "0");
}

/** undefined: there is none, or it is a placeholder (comments only). */
export function parseHistory(text: string): readonly TimelineSegment[] | undefined {
  const past: TimelineSegment[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line);
    const end = match ? parseLsn(match[2] as string) : undefined;
    if (match && end !== undefined) past.push({ timeline: Number(match[1]), end });
  }
  return past.length > 0 ? past : undefined;
}

/** A timeline without a history file has no past that is known here. */
export async function readLineage(dataDir: string, timeline: Timeline): Promise<Lineage> {
  const text = timeline > 1 ? await readIfThere(historyPath(dataDir, timeline)) : undefined;
  return { past: (text === undefined ? undefined : parseHistory(text)) ?? [], timeline };
}

/** Timelines that are past, by the newest history here: the control file of a standby names its present timeline late. */
export async function newestPast(dataDir: string): Promise<readonly TimelineSegment[]> {
  const names = (await readdir(join(dataDir, "pg_wal"))).filter((name) => name.endsWith(".history")).sort();
  for (const name of names.reverse()) {
    const past = parseHistory((await readIfThere(join(dataDir, "pg_wal", name))) ?? "");
    if (past !== undefined) return past;
  }
  return [];
}

export async function historyExists(dataDir: string, timeline: Timeline): Promise<boolean> {
  return (await readIfThere(historyPath(dataDir, timeline))) !== undefined;
}

/**
 * A placeholder for every number below `timeline` that has no history file. Numbers below the own one too: a standby that
 * follows asks for each file between its timeline and the new one, and can't go on where one is missing.
 */
export async function writePlaceholders(dataDir: string, timeline: Timeline): Promise<void> {
  const there = new Set(await readdir(join(dataDir, "pg_wal")));
  for (let number = 2; number < timeline; number++)
    if (!there.has(historyFileName(number)))
      await writeDurably(
        historyPath(dataDir, number),
        `# placeholder: timeline ${number} was used or claimed by another peer of this shard\n`,
      );
}

/**
 * Removes what would make a standby's start be refused: placeholders above the newest timeline that this data can follow ("not a child of this server's
 * history"; a promotion that was cut short leaves them behind), and history files of timelines that left ours before `points` ("does not contain minimum
 * recovery point"; a forked standby fetched them from its upstream). It then starts on its own timeline, and its fork is noticed. A history that contains
 * the points is kept, whatever number it has: WAL of that timeline may be here already.
 */
export async function removeUnreachableHistories(
  dataDir: string,
  { own, points }: { own: Timeline; points: readonly WalPoint[] },
): Promise<void> {
  const numbers = (await readdir(join(dataDir, "pg_wal")))
    .map((name) => /^([0-9A-F]{8})\.history$/.exec(name)?.[1])
    .filter((hex) => hex !== undefined)
    .map((hex) => Number.parseInt(hex, 16))
    .sort((a, b) => b - a);
  for (const number of numbers) {
    if (number <= own) return;
    const text = await readIfThere(historyPath(dataDir, number));
    const past = text === undefined ? undefined : parseHistory(text);
    const contains = (point: WalPoint) =>
      past?.some(({ timeline, end }) => timeline === point.timeline && end >= point.lsn) ?? false;
    if (past !== undefined && points.every(contains)) return;
    await removeDurably(historyPath(dataDir, number));
  }
}

/** Takes away what a promotion to `timeline` left that never began: its history file and its segments. */
export async function removeTimeline(dataDir: string, timeline: Timeline): Promise<void> {
  const folder = join(dataDir, "pg_wal");
  const prefix = timelineName(timeline);
  for (const name of await readdir(folder))
    if (name.startsWith(prefix) && /^[0-9A-F]{8}([0-9A-F]{16}(\.partial)?|\.history)$/.test(name))
      await removeDurably(join(folder, name));
  for (const name of await readdir(join(folder, "archive_status")).catch(() => []))
    if (name.startsWith(prefix)) await removeDurably(join(folder, "archive_status", name));
  await flushFolder(folder);
}

function historyPath(dataDir: string, timeline: Timeline): string {
  return join(dataDir, "pg_wal", historyFileName(timeline));
}
