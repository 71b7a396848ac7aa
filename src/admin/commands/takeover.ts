import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { canFollow } from "../../base/lineage.ts";
import { formatLsn } from "../../base/lsn.ts";
import { type PeerEntry, roleOf, type ShardState, shortName } from "../../cluster/state.ts";
import { confirm, readDocument, writeChange, type Written } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { isCalled } from "../find-peer.ts";
import { isoTime } from "../../base/text.ts";
import { forcedState, type Holder, runsPostgres } from "../forced.ts";
import { examples, printTable } from "../output.ts";
import { type Picture, takePicture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { type Standing, STANDING_COLUMNS, standings } from "../standings.ts";
import { shardTarget, WAIT_TIMEOUT_MS } from "../target.ts";
import { doing, type Progress, waitFor } from "../wait.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly acceptLoss?: boolean;
  readonly zonename?: string;
}

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("--accept-loss", "say that you know that acknowledged commits may be lost (required)")
    .option("-n, --zonename <ZONENAME>", "who takes over (otherwise: whoever is farthest)")
    .addHelpText(
      "after",
      `${examples("takeover -s 1 --accept-loss", "takeover -s 1 --accept-loss -n 7a8f0b2c")}\n\nThe way out when primary and sync are lost together. Commits that only they had are lost for good. While one of\nthe two can still come back, bring it back instead.`,
    )
    .action(run(takeover));
}

async function takeover(context: AdminContext, given: Options): Promise<ExitStatus> {
  if (given.acceptLoss !== true)
    throw new WrongUse(
      "option is required: --accept-loss (what the lost primary and sync alone had confirmed is lost for good)",
    );
  const options = changeOptions(given);
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    const picture = await takePicture(access);
    const all = standings(picture, (id) => roleOf(document.state, id));
    printTable(context.terminal, STANDING_COLUMNS, all);
    refuseWhileServing(document.state, picture);
    const claimant = chooseClaimant(document.state, all, given.zonename);
    const heir = chooseHeir(document.state, all, claimant);
    tellLoss(access, document.state, { claimant, heir, picture });
    await confirm(access, options, "refuse");
    const date = isoTime(context.world.clock.wall());
    const apply = (state: ShardState) => forcedState(state, { claimant, heir, date, picture });
    const reason = `forced by an operator, accepting loss: ${claimant.peer.id} takes over at ${formatLsn(claimant.end)} on timeline ${claimant.lineage.timeline}`;
    const written = await writeChange(access, document, { kind: "forced", rule: "O2", reason, apply }, options);
    if (written === undefined) return 0;
    await waitFor(access, given.timeout === undefined ? WAIT_TIMEOUT_MS : given.timeout * 1000, (now) =>
      progress(now, written, claimant),
    );
    return 0;
  });
}

/** Commits need primary and sync together: while both run, they may go on acknowledging until they have read the new state. */
function refuseWhileServing(state: ShardState, picture: Picture): void {
  const runs = (peer: PeerEntry) => runsPostgres(picture, peer);
  const sync = state.sync;
  if (!runs(state.primary) || (sync !== null && !runs(sync))) return;
  throw new ManateeError({
    code: "ADMIN_TAKEOVER_REFUSED",
    message: `primary "${shortName(state.primary)}"${sync === null ? "" : ` and sync "${shortName(sync)}"`} still run, and could acknowledge what would be lost`,
    remedy: "operator",
    hint: "Use manatee-adm promote to switch over; if they can't go on, stop the primary's sitter and PostgreSQL first.",
  });
}

function chooseClaimant(state: ShardState, all: readonly Standing[], zonename: string | undefined): Holder {
  const holders = all.flatMap((standing) => holderOf(state, standing) ?? []);
  const named = zonename === undefined ? holders[0] : holders.find(({ peer }) => isCalled(peer, zonename));
  if (named !== undefined && named.peer.id === state.primary.id)
    throw refused(
      `"${shortName(named.peer)}" is the primary already`,
      "Start its sitter; name another peer with --zonename otherwise.",
    );
  if (named !== undefined) return named;
  throw zonename === undefined
    ? refused(
        "no reachable peer says that it holds this shard's data, and how far",
        "Start the sitters of the peers that are left.",
      )
    : refused(
        `${zonename} is not a reachable peer that holds this shard's data`,
        "Choose one of those shown with a position.",
      );
}

function holderOf(state: ShardState, { asked, incarnation, lineage, end }: Standing): Holder | undefined {
  const { report } = asked;
  if (report === undefined || incarnation === undefined || lineage === undefined || end === undefined) return undefined;
  if (state.systemIdentifier !== undefined && report.systemIdentifier !== state.systemIdentifier) return undefined;
  return { peer: asked.peer, incarnation, lineage, end, systemIdentifier: report.systemIdentifier ?? undefined };
}

/** Who can follow the claimant as it stands, so that the shard has a sync at once. */
function chooseHeir(state: ShardState, all: readonly Standing[], claimant: Holder): Holder | undefined {
  return all
    .flatMap((standing) => holderOf(state, standing) ?? [])
    .filter(({ peer }) => peer.id !== claimant.peer.id && peer.id !== state.primary.id && peer.id !== state.sync?.id)
    .find(
      ({ lineage, end }) =>
        end <= claimant.end && canFollow(claimant.lineage, { timeline: lineage.timeline, lsn: end }),
    );
}

function tellLoss(
  { context }: ShardAccess,
  state: ShardState,
  asked: { claimant: Holder; heir: Holder | undefined; picture: Picture },
): void {
  const { claimant, heir, picture } = asked;
  const say = (line: string) => context.terminal.note(line);
  const lost = [state.primary, ...(state.sync === null ? [] : [state.sync])].filter(
    ({ id }) => id !== claimant.peer.id,
  );
  say(
    `"${shortName(claimant.peer)}" takes over at ${formatLsn(claimant.end)} on timeline ${claimant.lineage.timeline}${heir === undefined ? ", alone: one-node-write mode, until another peer has caught up" : `, with "${shortName(heir.peer)}" as its sync`}.`,
  );
  say(
    `May be lost: every commit that ${lost.map((peer) => `"${shortName(peer)}"`).join(" and ")} confirmed behind that position.`,
  );
  for (const peer of lost) {
    const report = picture.peers[peer.id]?.report;
    if (report?.postgres.walEnd != null)
      say(
        `  "${shortName(peer)}" says that it ends at ${report.postgres.walEnd} on timeline ${report.postgres.timeline ?? "?"}.`,
      );
    else
      say(
        `  How far "${shortName(peer)}" is, nobody can say: it doesn't answer from here. That it is down is your word.`,
      );
  }
  if (state.sync !== null && claimant.peer.id === state.sync.id)
    say("It is the sync: nothing that was confirmed is missing, unless its data are older than its name.");
}

function progress(picture: Picture, { state: mine }: Written, claimant: Holder): Progress {
  const { view } = picture;
  if (view.kind !== "document") return { kind: "waiting", what: "the document to be readable again" };
  if (view.state.primary.id !== claimant.peer.id)
    return {
      kind: "failed",
      what: `"${shortName(view.state.primary)}" is primary now, generation ${view.state.generation}`,
      hint: "See manatee-adm history -v.",
    };
  const report = picture.peers[claimant.peer.id]?.report;
  if (!view.state.provisional && report?.postgres.gate === "open")
    return {
      kind: "reached",
      what: `"${shortName(claimant.peer)}" is primary and open to clients, generation ${mine.generation}`,
    };
  return { kind: "waiting", what: doing(picture, claimant.peer.id) };
}

function refused(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "ADMIN_TAKEOVER_REFUSED", message, remedy: "operator", hint });
}
