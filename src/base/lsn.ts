// WAL positions and timelines, as PostgreSQL writes and compares them.

declare const lsnBrand: unique symbol;

/** A WAL position: bytes since the beginning of the WAL, 64 bits, unsigned. Compare with `<` and `>=`. */
export type Lsn = bigint & { readonly [lsnBrand]: true };

/** A PostgreSQL timeline number, 1 or more. */
export type Timeline = number;

export const HIGHEST_TIMELINE: Timeline = 0x7fff_ffff;

export const ZERO_LSN = 0n as Lsn;
export const HIGHEST_LSN = 0xffff_ffff_ffff_ffffn as Lsn;

export function lsn(value: bigint): Lsn {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`WAL position out of range: ${value}`);
  return value as Lsn;
}

/** Parses PostgreSQL's `X/Y` (two hexadecimal halves); undefined if it is not one. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (!match) return undefined;
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** PostgreSQL's `X/Y`. */
export function formatLsn(value: Lsn): string {
  return `${(value >> 32n).toString(16).toUpperCase()}/${(value & 0xffff_ffffn).toString(16).toUpperCase()}`;
}

export function minLsn(a: Lsn, b: Lsn): Lsn {
  return a < b ? a : b;
}

export function maxLsn(a: Lsn, b: Lsn): Lsn {
  return a >= b ? a : b;
}
