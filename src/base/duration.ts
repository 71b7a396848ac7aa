// Durations as people write them: `45s`, `12m`, `7h`, `3d`.

import type { Ms } from "./units.ts";

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["m", 60],
] as const;

/** In the largest unit of which there are two at least, seconds otherwise. A negative one is `0s`. */
export function formatDuration(ms: Ms): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [name, length] = UNITS.find(([, unit]) => seconds >= 2 * unit) ?? ["s", 1];
  return `${Math.floor(seconds / length)}${name}`;
}

/** A whole number and its unit; undefined: it is none. */
export function parseDuration(text: string): Ms | undefined {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  if (!match) return undefined;
  const length = UNITS.find(([name]) => name === match[2])?.[1] ?? 1;
  return Number(match[1]) * length * 1000;
}
