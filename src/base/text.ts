// Small conversions for documents and messages.

/** ISO 8601 of a wall-clock instant (milliseconds since the epoch). */
export function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

/** Bytes of a string in UTF-8; a lone surrogate counts as three, as it would be replaced. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0) as number;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  return bytes;
}
