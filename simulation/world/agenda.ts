// What happens next: the virtual clock and its list of things to come.

import type { Ms } from "../../src/base/units.ts";
import { between } from "../random.ts";
import type { World } from "./types.ts";

/** After a time, exactly or drawn from a range. */
export function schedule(world: World, delay: Ms | readonly [Ms, Ms], what: string, run: () => void): void {
  const at = world.now + (typeof delay === "number" ? delay : between(world.random, delay));
  const item = { at, order: ++world.counter, what, run };
  let i = world.agenda.length;
  while (i > 0 && (world.agenda[i - 1]?.at ?? 0) > at) i--;
  world.agenda.splice(i, 0, item);
}

/** Does the next thing. Its name; undefined where there is nothing to come. */
export function stepWorld(world: World): string | undefined {
  const item = world.agenda.shift();
  if (!item) return undefined;
  world.now = Math.max(world.now, item.at);
  item.run();
  return item.what;
}

export function nextNumber(world: World): number {
  return ++world.counter;
}

export function tell(world: World, line: string): void {
  world.journal.push(`${(world.now / 1000).toFixed(3).padStart(8)}  ${line}`);
}
