// R1.6, R1.8: by which way a peer goes back to the shard. Asked by the rules, and by whoever foretells what they will do.
//
// Whether what is here was touched, the mark tells: then it says "incomplete".
//
//   tried before  what is here  next
//   nothing       anything      roll-back where the storage can, else rewind
//   roll-back     untouched     rewind
//   roll-back     incomplete    copy
//   rewind        anything      copy
//   copy          anything      copy, again and again
//
// What has not forked, and what an operator wants whole or from a peer of his choice, is copied.

import type { PeerId } from "../base/peer-id.ts";

export type RejoinWay = "roll-back" | "rewind" | "copy";

/** R1.8: what an operator asked for with `manatee-adm rebuild`. */
export interface RebuildWish {
  /** Whom to copy; undefined: whoever R1 names. */
  readonly from: PeerId | undefined;
  /** Nothing of what is here is to stay. */
  readonly full: boolean;
}

/** Cheapest first. */
export function nextWay(
  tried: RejoinWay | undefined,
  { canRollBack, incomplete }: { readonly canRollBack: boolean; readonly incomplete: boolean },
): RejoinWay {
  if (tried === undefined) return canRollBack ? "roll-back" : "rewind";
  return tried === "roll-back" && !incomplete ? "rewind" : "copy";
}

/** Whether ways other than a copy are open to a rebuild: they go back to where the peer's WAL has left the primary's. */
export function leavesRoomForLess(
  { from, full }: RebuildWish,
  { primary, forked }: { readonly primary: PeerId; readonly forked: boolean },
): boolean {
  return forked && !full && (from === undefined || from === primary);
}
