// What is told of a series of measurements.

export interface Summary {
  readonly runs: number;
  readonly medianMs: number;
  readonly worstMs: number;
  readonly bestMs: number;
}

/** Of at least one value. The median of an even number is the mean of the two in the middle. */
export function summarize(valuesMs: readonly number[]): Summary {
  if (valuesMs.length === 0) throw new Error("nothing was measured");
  const sorted = [...valuesMs].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] as number;
  const high = sorted[Math.floor(middle)] as number;
  return {
    runs: sorted.length,
    medianMs: (low + high) / 2,
    worstMs: sorted.at(-1) as number,
    bestMs: sorted[0] as number,
  };
}

/** `1.23 s` */
export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
