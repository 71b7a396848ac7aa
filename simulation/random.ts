// Seeded randomness: the same seed gives the same run. mulberry32, 32 bits of state.

export interface Random {
  state: number;
}

export function seeded(seed: number): Random {
  return { state: seed >>> 0 };
}

/** In [0, 1). */
export function nextRandom(random: Random): number {
  random.state = (random.state + 0x6d2b79f5) >>> 0;
  let t = random.state;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
}

/** A whole number in [min, max]. */
export function between(random: Random, [min, max]: readonly [number, number]): number {
  return min + Math.floor(nextRandom(random) * (max - min + 1));
}

export function chance(random: Random, probability: number): boolean {
  return nextRandom(random) < probability;
}

/** A random name of 8 hexadecimal digits. */
export function randomName(random: Random): string {
  return between(random, [0, 0xffff_ffff]).toString(16).padStart(8, "0");
}
