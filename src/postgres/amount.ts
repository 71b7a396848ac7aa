// How much of a copy is done, for people.

import { leftMsOf } from "../base/progress.ts";
import type { Bytes, Ms } from "../base/units.ts";

export interface Amount {
  readonly done: Bytes;
  /** An estimate; undefined: not known. */
  readonly expected: Bytes | undefined;
  readonly elapsedMs: Ms;
}

/** `1.20 of 4.00 GB, 35 s left` */
export function amountInWords(amount: Amount): string {
  const { done, expected } = amount;
  const left = leftMsOf(amount);
  const all = expected === undefined ? "" : ` of ${gigabytes(Math.max(expected, done))}`;
  return `${gigabytes(done)}${all} GB${left === undefined ? "" : `, ${Math.round(left / 1000)} s left`}`;
}

function gigabytes(bytes: Bytes): string {
  return (bytes / 1e9).toFixed(2);
}
