// A snapshot of this host's peer, by its name, that a server may be started on.

import { ManateeError } from "../base/errors.ts";
import { formatLsn } from "../base/lsn.ts";
import { isoTime } from "../base/text.ts";
import type { ClonePlace, CloneSource } from "../postgres/clones.ts";
import { decodeFacts, verdictOf } from "../snapshots/facts.ts";

/** @throws `CLONE_NO_SNAPSHOT`, `SNAPSHOT_UNSOUND` */
export function findSnapshot({ snapshots }: ClonePlace, name: string): CloneSource {
  const found = snapshots.find((one) => one.name === name);
  if (!found)
    throw new ManateeError({
      code: "CLONE_NO_SNAPSHOT",
      message: `this host's peer has no snapshot ${JSON.stringify(name)}`,
      remedy: "operator",
      hint:
        snapshots.length === 0
          ? "It has none: clone now takes one."
          : `Its newest is ${snapshots.at(-1)?.name}; manatee-adm snapshots lists all.`,
    });
  const verdict = verdictOf(found.properties);
  if (verdict?.passed !== false) return found;
  throw new ManateeError({
    code: "SNAPSHOT_UNSOUND",
    message: `snapshot ${name} can't be restored: ${verdict.text}`,
    remedy: "operator",
    hint: "Take another one: manatee-adm snapshots tells which were verified.",
  });
}

export function describeSnapshot({ name, createdWallMs, properties }: CloneSource): string {
  const facts = decodeFacts(properties);
  const end = facts === undefined ? "" : `, up to ${formatLsn(facts.lsn)} on timeline ${facts.timeline} at the latest`;
  return `${name} (of ${isoTime(createdWallMs)}${end})`;
}
