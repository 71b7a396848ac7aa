// Which faults befall a shard, when and for how long: all drawn from the seed, so that a run can be made again. What they hit is told by role, which depends on how the
// shard stands at that moment.

import { between, chance, nextRandom, type Random, seeded } from "../simulation/random.ts";

export const KINDS = [
  "kill-postgres",
  "kill-backend",
  "kill-sitter",
  "crash-host",
  "freeze-sitter",
  "freeze-postgres",
  "freeze-host",
  "unplug-host",
  "cut-one-way",
  "kill-store",
  "freeze-store",
  "switch-over",
] as const;
export type Kind = (typeof KINDS)[number];

export type Role = "primary" | "sync" | "async";

export interface PlannedFault {
  readonly kind: Kind;
  readonly victim: Role;
  /** Of `cut-one-way`: who does not hear the victim any more. */
  readonly other: Role;
  /** After the beginning of its episode. */
  readonly atMs: number;
  /** How long it lasts. */
  readonly forMs: number;
}

/** Faults that begin within a few seconds, so that they meet; then all is mended. */
export interface Episode {
  readonly number: number;
  readonly faults: readonly PlannedFault[];
  /** Whether the next one waits until the chain is whole again. */
  readonly wait: boolean;
}

const TOGETHER_MS = 6_000;
const FOR_MS = [100, 20_000] as const;

/** Endless. */
export function* episodes(seed: number, kinds: readonly Kind[] = KINDS): Generator<Episode, never> {
  const random = seeded(seed);
  for (let number = 1; ; number++) {
    const count = between(random, [1, 3]);
    const faults = Array.from({ length: count }, (_, i) => fault(random, kinds, i === 0));
    yield { number, faults: faults.sort((a, b) => a.atMs - b.atMs), wait: chance(random, 0.7) };
  }
}

function fault(random: Random, kinds: readonly Kind[], first: boolean): PlannedFault {
  const kind = kinds[between(random, [0, kinds.length - 1])] as Kind;
  const victim = role(random);
  const others = (["primary", "sync", "async"] as const).filter((one) => one !== victim);
  return {
    kind,
    victim,
    other: others[between(random, [0, 1])] as Role,
    atMs: first ? 0 : between(random, [0, TOGETHER_MS]),
    forMs: logarithmic(random, FOR_MS),
  };
}

/** The primary is worth more visits than the others. */
function role(random: Random): Role {
  const drawn = nextRandom(random);
  return drawn < 0.5 ? "primary" : drawn < 0.8 ? "sync" : "async";
}

/** Short ones as often as long ones: each doubling has the same share. */
function logarithmic(random: Random, [min, max]: readonly [number, number]): number {
  return Math.round(min * (max / min) ** nextRandom(random));
}
