// Waiting until the shard has done what was asked, and saying meanwhile what it is waiting for.

import { ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import { pause } from "../world/waiting.ts";
import type { ShardAccess } from "./connect.ts";
import type { AdminContext } from "./context.ts";
import { type Picture, takePicture } from "./picture.ts";

/** What a look showed. `waiting`: in words, told when it changes. */
export type Progress =
  | { readonly kind: "reached"; readonly what: string }
  | { readonly kind: "waiting"; readonly what: string }
  | { readonly kind: "failed"; readonly what: string; readonly hint: string };

/** People watch this; the store's watch wakes it earlier. */
const LOOK_EVERY_MS: Ms = 500;
/** But not for each step of a takeover: a look asks every sitter, which has better things to do then. */
const LOOK_INTERVAL_MIN_MS: Ms = 150;

/** @throws `ADMIN_NOT_REACHED` past the limit, or when it can't come any more */
export async function waitFor(access: ShardAccess, limitMs: Ms, look: (picture: Picture) => Progress): Promise<void> {
  const { world, terminal } = access.context;
  const began = world.clock.now();
  let told = "";
  for (;;) {
    const progress = await lookOnce(access, look);
    const seconds = ((world.clock.now() - began) / 1000).toFixed(1);
    if (progress.kind === "reached") {
      terminal.print(`Done after ${seconds} s: ${progress.what}.`);
      return;
    }
    if (progress.kind === "failed") throw notReached(progress.what, progress.hint);
    if (progress.what !== told) terminal.note(`${seconds.padStart(5)} s  ${progress.what}`);
    told = progress.what;
    if (world.clock.now() - began >= limitMs)
      throw notReached(
        `not reached within ${limitMs / 1000} s: ${told}`,
        "Look at manatee-adm show and the sitters' logs; what was asked for stays in the document.",
      );
    await sleep(access.context, LOOK_INTERVAL_MIN_MS);
    await nextLook(access);
  }
}

/** The store may be away for a moment; what was asked for is not affected. */
async function lookOnce(access: ShardAccess, look: (picture: Picture) => Progress): Promise<Progress> {
  try {
    return look(await takePicture(access));
  } catch (error) {
    if (access.shard.session.status.kind !== "connecting") throw error;
    return { kind: "waiting", what: "the coordination store to answer" };
  }
}

function nextLook({ context, shard }: ShardAccess): Promise<void> {
  return new Promise((resolve) => {
    const wake = () => {
      stop();
      cancel();
      resolve();
    };
    const stop = shard.watch(wake);
    const cancel = context.world.timers.after(LOOK_EVERY_MS, wake);
  });
}

export function sleep({ world }: AdminContext, forMs: Ms): Promise<void> {
  return pause(world.timers, forMs);
}

function notReached(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "ADMIN_NOT_REACHED", message, remedy: "operator", hint });
}

/** What the primary, or whoever is to be it, says that it is doing. */
export function doing(picture: Picture, id: string): string {
  const asked = picture.peers[id];
  const decision = asked?.report?.decision;
  if (decision === undefined)
    return asked === undefined
      ? "nothing is known of it"
      : `its sitter ${asked.sitter === "refused" ? "refuses" : "doesn't answer"}`;
  return `${decision.because}${decision.waitingOn === null ? "" : `; waits for ${decision.waitingOn}`}`;
}
