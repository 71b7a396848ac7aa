import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { formatLsn, parseLsn } from "../../base/lsn.ts";
import { isoTime } from "../../base/text.ts";
import type { Ms } from "../../base/units.ts";
import { FREEZE_OF_MODE, type PeerEntry, roleOf, type ShardState, shortName } from "../../cluster/state.ts";
import type { SitterConfig } from "../../config/types.ts";
import type { CloneSource } from "../../postgres/clones.ts";
import type { RestoreEnd, RestorePlace, Restores, RestoreTarget } from "../../postgres/restore.ts";
import { type Change, confirm, readDocument, writeChange, type Written } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { describeSnapshot, findSnapshot } from "../clone-source.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { forcedState, runsPostgres } from "../forced.ts";
import { examples } from "../output.ts";
import { peerTarget } from "../peer-target.ts";
import { type Picture, takePicture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { collect, isJson } from "../table.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly to?: RestoreTarget;
  readonly whileRunning?: boolean;
  readonly columns?: readonly string[];
}

/** What is to be done, once it is known where it ends. */
interface Plan {
  readonly config: SitterConfig;
  readonly snapshot: CloneSource;
  readonly to: RestoreTarget | undefined;
  readonly end: RestoreEnd;
  readonly incarnation: string;
}

/** A recovery takes as long as there is WAL since the last checkpoint, or up to the point in time. */
const LIMIT_MS: Ms = 3_600_000;

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .argument("<SNAPSHOT>", "its name (manatee-adm snapshots), one of this host's peer")
    .option(
      "--to <POINT>",
      "go on from there to a time (2026-03-01T14:02:00Z) or a WAL position, by the WAL that this peer still has",
      parseTarget,
    )
    .option("--while-running", "also while primary or sync run: what they confirm meanwhile is lost to the shard, too")
    .option("-o, --columns <json>", "what was done, or would be, as JSON", collect)
    .addHelpText(
      "after",
      `${examples(
        "restore 1760000000000 -f /etc/manatee/sitter.json --dry-run",
        "restore 1760000000000 -f /etc/manatee/sitter.json",
        "restore 1760000000000 -f /etc/manatee/sitter.json --to 2026-03-01T14:02:00Z",
      )}\n\nRun it on the host of an async, as the user that owns the data, with this peer's sitter stopped (--dry-run: it may run). This peer goes back to the snapshot and becomes the shard's primary, alone, as soon\nas its sitter is started. What came after the snapshot is lost to the shard; each peer keeps what it holds, this one as a fork, until manatee-adm set-onwm -m off (docs/operating/restore.md).`,
    )
    .action(run(restore));
}

async function restore(context: AdminContext, given: Options, [name = ""]: readonly string[]): Promise<ExitStatus> {
  if (given.columns !== undefined && !isJson(given.columns)) throw new WrongUse("option --columns takes json here");
  const json = given.columns !== undefined;
  const options = changeOptions(given);
  const target = await peerTarget(context, given);
  const { config } = target;
  const restores = await context.restores(config);
  return withShard(context, target, async (access): Promise<ExitStatus> => {
    const { terminal, world } = context;
    const document = await readDocument(access);
    const [picture, place] = [await takePicture(access), await restores.place()];
    const snapshot = findSnapshot(place, name);
    const reasons = reasonsAgainst(document.state, {
      config,
      picture,
      place,
      whileRunning: given.whileRunning === true,
    });
    const [first] = reasons;
    if (first !== undefined && options.dryRun !== true) throw first;
    const began = world.clock.now();
    const onStep = (text: string) =>
      terminal.note(`${((world.clock.now() - began) / 1000).toFixed(1).padStart(5)} s  ${text}`);
    const limitMs = given.timeout === undefined ? LIMIT_MS : given.timeout * 1000;
    const end = await restores.try({ snapshot, to: given.to, limitMs, onStep });
    const plan: Plan = { config, snapshot, to: given.to, end, incarnation: world.random.hex(8) };
    demandSame(document.state, end);
    tell(access, document.state, { plan, place, picture });
    if (options.dryRun === true) {
      for (const { message, hint } of reasons) terminal.note(`It would be refused: ${message}. ${hint}`);
      if (json) terminal.print(asJson(document.state.generation + 1, { plan, kept: undefined, reasons }));
      else await write(access, document, { plan, picture, dryRun: true });
      return 0;
    }
    await confirm(access, options, "refuse");
    const { written, kept } = await carryOut(access, restores, { plan, document, picture, onStep });
    if (json) terminal.print(asJson(written.state.generation, { plan, kept, reasons: [] }));
    else tellDone(access, written.state, kept);
    return 0;
  });
}

/** First what is there moves aside under a new incarnation; the document names that one. In between this peer is an async with older data. */
async function carryOut(
  access: ShardAccess,
  restores: Restores,
  {
    plan,
    document,
    picture,
    onStep,
  }: { plan: Plan; document: Written; picture: Picture; onStep: (text: string) => void },
): Promise<{ written: Written; kept: string }> {
  const { config } = plan;
  const { terminal } = access.context;
  const held = await restores.hold();
  try {
    // Nobody gives this peer a role that matters from here on: its sitter can't start.
    await readAgain(access, document, config);
    const { kept } = await restores.putBack({ ...plan, forksMax: config.policy.forksKeptMax, onStep });
    onStep("writes the document");
    try {
      const now = await readAgain(access, document, config);
      const written = await write(access, now, { plan, picture, dryRun: false });
      return { written: written as Written, kept };
    } catch (error) {
      terminal.note(
        `This peer's data is the snapshot's now, and no document says so: start its sitter, and it follows the shard again, or restore once more. What it held is ${kept}.`,
      );
      throw error;
    }
  } finally {
    held.release();
  }
}

/** What was shown still holds. That asyncs come and go (this one has left) does not matter. */
async function readAgain(access: ShardAccess, { state: shown }: Written, config: SitterConfig): Promise<Written> {
  const now = await readDocument(access);
  const { generation, reason, rule } = now.state;
  if (generation !== shown.generation)
    throw new ManateeError({
      code: "ADMIN_STATE_CHANGED",
      message: `the shard changed meanwhile: ${rule}, ${reason || "no reason given"} (generation ${shown.generation}, now ${generation})`,
      remedy: "operator",
      hint: "Look at manatee-adm show, and decide anew.",
    });
  const refusal = refusalOfRole(now.state, config);
  if (refusal) throw refusal;
  return now;
}

/** O2, of a peer that goes on alone. undefined: a dry run. */
function write(
  access: ShardAccess,
  document: Written,
  { plan, picture, dryRun }: { plan: Plan; picture: Picture; dryRun: boolean },
): Promise<Written | undefined> {
  const { config, snapshot, end, incarnation } = plan;
  const { timeline, lsn, systemIdentifier } = end;
  const claimant = { peer: config.self, incarnation, lineage: { past: [], timeline }, end: lsn, systemIdentifier };
  const date = isoTime(access.context.world.clock.wall());
  const change: Change = {
    kind: "forced",
    rule: "O2",
    reason: `restored by an operator from snapshot ${snapshot.name} of ${config.self.id}, up to ${formatLsn(lsn)} on timeline ${timeline}`,
    apply: (state) => forcedState(state, { claimant, heir: undefined, date, picture }),
  };
  return writeChange(access, document, change, { dryRun });
}

function reasonsAgainst(
  state: ShardState,
  {
    config,
    picture,
    place,
    whileRunning,
  }: { config: SitterConfig; picture: Picture; place: RestorePlace; whileRunning: boolean },
): readonly ManateeError[] {
  const { self, policy } = config;
  const runs = [state.primary, state.sync].filter(
    (peer): peer is PeerEntry =>
      peer !== null && peer.id !== self.id && (isAnswering(picture, peer) || runsPostgres(picture, peer)),
  );
  const role = refusalOfRole(state, config);
  return [
    ...(role ? [role] : []),
    ...(isAnswering(picture, self)
      ? [refused("this peer's sitter runs", "Stop it (SIGTERM: its PostgreSQL ends with it).")]
      : []),
    ...(place.forks.length >= policy.forksKeptMax
      ? [
          refused(
            `what this peer holds now can't be kept: ${place.forks.length} forks are kept already`,
            "manatee-adm diverged lists them; --drop those that nobody needs, or raise policy.forksKeptMax.",
          ),
        ]
      : []),
    ...(runs.length > 0 && !whileRunning
      ? [
          refused(
            `the shard runs: ${runs.map((peer) => `"${shortName(peer)}" (${roleOf(state, peer.id)})`).join(" and ")} could confirm what would be lost`,
            "Stop the sitters of primary and sync (manatee-adm freeze first); or say --while-running.",
          ),
        ]
      : []),
  ];
}

function isAnswering({ peers }: Picture, { id }: { readonly id: string }): boolean {
  return peers[id]?.sitter === "answers";
}

/** What primary or sync hold may be the only copy of what was acknowledged. */
function refusalOfRole(state: ShardState, { self }: SitterConfig): ManateeError | undefined {
  const role = roleOf(state, self.id);
  if (role !== "primary" && role !== "sync") return undefined;
  return refused(
    `this host's peer ${self.id} is the ${role}: what it holds may be the only copy`,
    role === "sync"
      ? "Run it on the host of an async; in a shard of two the sync is free after manatee-adm set-onwm -m on."
      : "Run it on the host of an async, with a snapshot of that peer's.",
  );
}

function demandSame(state: ShardState, end: RestoreEnd): void {
  if (state.systemIdentifier === undefined || state.systemIdentifier === end.systemIdentifier) return;
  throw refused(
    `the snapshot holds another database: system identifier ${end.systemIdentifier}, and the shard has ${state.systemIdentifier}`,
    "Take another one: manatee-adm snapshots.",
  );
}

function tell(
  { context, target }: ShardAccess,
  state: ShardState,
  { plan, place, picture }: { plan: Plan; place: RestorePlace; picture: Picture },
): void {
  const { snapshot, end, config } = plan;
  const say = (line: string) => context.terminal.note(line);
  say(
    `Puts shard ${target.shard} back to snapshot ${describeSnapshot(snapshot)}. It was tried: it recovers, up to ${formatLsn(end.lsn)} on timeline ${end.timeline}${lastCommit(end)}.`,
  );
  say(
    `This peer "${shortName(config.self)}" becomes the primary of generation ${state.generation + 1}, alone: one-node-write mode, frozen. Lost to the shard: every commit after that.`,
  );
  say(
    "What this peer holds now is kept as a fork. The others keep what they hold until manatee-adm set-onwm -m off, and then as forks.",
  );
  if (!place.shared) say("warning: this storage shares no blocks: the data is copied twice, in time and in space.");
  for (const peer of [state.primary, state.sync])
    if (peer && peer.id !== config.self.id)
      say(
        `"${shortName(peer)}" (${roleOf(state, peer.id)}) ${isAnswering(picture, peer) || runsPostgres(picture, peer) ? "runs: what it confirms until it has read the document is lost, too." : "doesn't answer from here. That it is down is your word."}`,
      );
}

function lastCommit({ lastCommitWallMs }: RestoreEnd): string {
  return lastCommitWallMs === undefined ? "" : `; its last commit there is of ${isoTime(lastCommitWallMs)}`;
}

function tellDone({ context: { terminal } }: ShardAccess, state: ShardState, kept: string): void {
  terminal.print(
    `Written: "${shortName(state.primary)}" is the primary of generation ${state.generation}. What it held is kept as ${kept}.`,
  );
  terminal.print("Start its sitter now; it lets clients in when it has begun its timeline. Then look at the data.");
  terminal.print(
    `It is as you want it: manatee-adm set-onwm -m off${state.freeze?.reason === FREEZE_OF_MODE.forcedAlone ? "" : ", then unfreeze"}, and the others come back. It is not: docs/operating/restore.md has the way back.`,
  );
}

function asJson(
  generation: number,
  { plan, kept, reasons }: { plan: Plan; kept: string | undefined; reasons: readonly ManateeError[] },
): string {
  const { snapshot, end, config } = plan;
  return JSON.stringify(
    {
      peer: config.self.zoneId,
      snapshot: snapshot.name,
      timeline: end.timeline,
      lsn: formatLsn(end.lsn),
      lastCommit: end.lastCommitWallMs === undefined ? null : isoTime(end.lastCommitWallMs),
      generation,
      written: kept !== undefined,
      kept: kept ?? null,
      refused: reasons.map(({ message }) => message),
    },
    undefined,
    2,
  );
}

function parseTarget(text: string): RestoreTarget {
  const lsn = parseLsn(text);
  if (lsn !== undefined) return { kind: "lsn", lsn };
  // With its zone: an operator's and a machine's may differ.
  const wallMs = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : NaN;
  if (!Number.isNaN(wallMs)) return { kind: "time", wallMs };
  throw new WrongUse(
    `option --to takes a time with its zone (2026-03-01T14:02:00Z) or a WAL position (0/3000060), not "${text}"`,
  );
}

function refused(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "RESTORE_REFUSED", message, remedy: "operator", hint });
}
