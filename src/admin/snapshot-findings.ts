// What `verify` says of the peers' snapshots, from what their backup servers tell.

import { explainError } from "../base/errors.ts";
import type { SnapshotList } from "../backup/wire.ts";
import type { Finding } from "../cluster/health-facts.ts";
import { type PeerAddress, shortName } from "../cluster/state.ts";
import { isGood } from "../snapshots/choice.ts";
import { refusalOf, verdictOf } from "../snapshots/facts.ts";
import type { PeerBackups } from "./context.ts";

const DAY_MS = 86_400_000;
/** As the snapshotter's `thinBelowPercent` and `stopBelowPercent` by default. */
const FREE_PERCENT_SCARCE = 15;
const FREE_PERCENT_SHORT = 5;

export async function askSnapshots(
  backups: PeerBackups,
  { peers, wallMs }: { peers: readonly PeerAddress[]; wallMs: number },
): Promise<readonly Finding[]> {
  const found = await Promise.all(
    peers.map((peer) =>
      backups.list(peer).then(
        (list) => judgeSnapshots(peer, { list, wallMs }),
        (error: unknown) => [
          finding(peer, {
            severity: "warning",
            message: `its backup server can't be asked: ${explainError(error)}`,
            remedy: "start manatee-backupserver there: no peer is seeded from this one without it",
          }),
        ],
      ),
    ),
  );
  return found.flat();
}

function judgeSnapshots(
  peer: PeerAddress,
  { list: { snapshots, space }, wallMs }: { list: Pick<SnapshotList, "snapshots" | "space">; wallMs: number },
): readonly Finding[] {
  const findings: Finding[] = [];
  const say = (severity: Finding["severity"], message: string, remedy: string) =>
    findings.push(finding(peer, { severity, message, remedy }));
  for (const { name, properties } of snapshots) {
    const verdict = verdictOf(properties);
    if (verdict?.passed === false)
      say(
        "warning",
        `its snapshot ${name} can't be restored: ${verdict.text}`,
        "look at that machine's storage and memory, and whether another peer's data is sound; then destroy the snapshot",
      );
  }
  const good = snapshots.filter(isGood);
  const newest = good.at(-1);
  if (newest === undefined)
    say("warning", "it has no snapshot that could serve a peer", "see whether manatee-snapshotter runs there");
  else if (wallMs - newest.createdWallMs > DAY_MS)
    say(
      "warning",
      `its newest good snapshot is ${Math.floor((wallMs - newest.createdWallMs) / DAY_MS)} days old`,
      "see whether manatee-snapshotter runs there, and whether space is short",
    );
  const tried = good.findLast(({ properties }) => (verdictOf(properties) ?? refusalOf(properties)) !== undefined);
  const refusal = tried && refusalOf(tried.properties);
  if (refusal !== undefined)
    say(
      "warning",
      `its snapshots can't be verified, because ${refusal}`,
      "move what it leads to into the data directory: such a snapshot can't be restored alone",
    );
  else if (good.length > 0 && !good.some(({ properties }) => verdictOf(properties)?.passed === true))
    say("note", "none of its snapshots was shown to be restorable", "see the snapshotter's `verification`");
  const percent = Math.floor((space.freeBytes * 100) / Math.max(1, space.freeBytes + space.usedBytes));
  if (percent < FREE_PERCENT_SCARCE)
    say(
      percent < FREE_PERCENT_SHORT ? "error" : "warning",
      `${percent} % of its storage are free`,
      "remove what nobody needs (manatee-adm diverged, held snapshots), or give it more space",
    );
  return findings;
}

function finding(peer: PeerAddress, { message, ...rest }: Pick<Finding, "severity" | "message" | "remedy">): Finding {
  return { ...rest, rule: undefined, peer: peer.id, message: `${shortName(peer)}: ${message}` };
}
