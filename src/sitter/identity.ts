// Whether another sitter bears this peer's name: one started on another machine with a copied configuration. It would take this peer's
// place in the election again and again. Who answers at the address that the name contains is the one that may stay.

import { ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { PeerAddress } from "../cluster/state.ts";
import { statusAddress } from "../peers/address.ts";
import { parsePeerReport } from "../peers/peer-report.ts";
import type { World } from "../world/port.ts";

/** @throws `SITTER_NAME_TAKEN` */
export async function checkIdentity(options: {
  world: World;
  self: PeerAddress;
  /** Names this run of this sitter; stands in its report. */
  run: string;
  limitMs: Ms;
}): Promise<void> {
  const { world, self, run, limitMs } = options;
  const target = statusAddress(self);
  if (!target) return;
  const answer = await world.network.httpGet({ ...target, path: "/state", limitMs });
  if (typeof answer === "string") return;
  const report = parsePeerReport(answer.body);
  if (report?.run === undefined || report.run === run) return;
  throw new ManateeError({
    code: "SITTER_NAME_TAKEN",
    message:
      report.id === self.id
        ? `another sitter answers as ${self.id} at ${target.host}:${target.port}`
        : `the sitter of ${report.id} answers at ${target.host}:${target.port}, the address of ${self.id}`,
    remedy: "operator",
    hint: "Give this peer its own ip, postgresPort and backupPort, or stop the other sitter.",
  });
}
