import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { isoTime } from "../../base/text.ts";
import type { Ms } from "../../base/units.ts";
import type { RebuildWish } from "../../cluster/rejoin-way.ts";
import { entryOf, roleOf, type ShardState } from "../../cluster/state.ts";
import type { SitterConfig } from "../../config/types.ts";
import { planRebuild } from "../../postgres/rebuild-plan.ts";
import { formatRebuildRequest } from "../../status/rebuild-file.ts";
import { confirm, readDocument } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import { peerTarget } from "../peer-target.ts";
import { askPeer } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { rebuildFacts } from "../rebuild-facts.ts";
import { planJson, planLines, type RebuildView } from "../rebuild-plan-view.ts";
import { rebuildSource } from "../rebuild-source.ts";
import { collect, isJson } from "../table.ts";
import { sleep } from "../wait.ts";
import { WrongUse } from "../wrong-use.ts";

/** A copy takes as long as the database is large; without --timeout it is waited for. */
const LOOK_EVERY_MS = 1_000;

interface Options extends ChangeCommandOptions {
  readonly from?: string;
  readonly full?: boolean;
  readonly columns?: readonly string[];
}

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-c, --config <CONFIG>", "the sitter's file of this host's peer, as -f (or MANATEE_SITTER_CONFIG)")
    .option(
      "--from <PEER>",
      "copy that peer: by zoneId, its first eight characters, id, or HOST:PORT of its PostgreSQL",
    )
    .option("--full", "copy all of it, also where a roll-back or pg_rewind would do")
    .option("-o, --columns <json>", "what would happen, or has, as JSON", collect)
    .addHelpText(
      "after",
      `${examples(
        "rebuild -c /etc/manatee/sitter.json --dry-run",
        "rebuild -c /etc/manatee/sitter.json",
        "rebuild -c /etc/manatee/sitter.json --from 10.0.0.3:5432 --full",
      )}\n\nRun it on the host of the peer that is to be rebuilt, as the user that owns the data. A peer whose WAL has forked goes back by the cheapest way that applies (roll-back, pg_rewind, a copy), any other by a copy.\nIts present content is kept as a fork first; where policy.forksKeptMax are kept already, it waits. --dry-run says which way, how much, how long, and what it would wait for.`,
    )
    .action(run(rebuild));
}

/** The request, as the sitter finds it. */
export function rebuildRequestPath({ stateDir }: SitterConfig): string {
  return `${stateDir}/rebuild.json`;
}

async function rebuild(context: AdminContext, given: Options): Promise<ExitStatus> {
  if (given.columns !== undefined && !isJson(given.columns)) throw new WrongUse("option --columns takes json here");
  const json = given.columns !== undefined;
  const options = changeOptions(given);
  const target = await peerTarget(context, given);
  const { config } = target;
  const { self } = config;
  return withShard(context, target, async (access): Promise<ExitStatus> => {
    const { terminal, world } = context;
    const { state } = await readDocument(access);
    checkRole(state, config);
    const source =
      given.from === undefined ? undefined : await rebuildSource(world.network, state, { name: given.from, self });
    const wish: RebuildWish = { from: source?.id, full: given.full === true };
    if (options.dryRun === true) {
      await tellPlan(context, { config, state, wish, json });
      return 0;
    }
    const path = rebuildRequestPath(config);
    const before = await askPeer(world.network, self);
    terminal.note(
      `${wish.full ? "Copies all of" : "Rebuilds"} ${self.zoneId} (${config.postgres.dataDir}) from ${source ? source.zoneId : "another peer"} of shard ${target.shard}.`,
    );
    terminal.note(
      "What it holds now is kept aside as a fork, if configuration and space allow; otherwise the sitter waits and says so.",
    );
    await confirm(access, options, "refuse");
    const request = { ...wish, requestedAt: isoTime(world.clock.wall()), by: context.author };
    await world.files.write(path, formatRebuildRequest(request), { mode: 0o644 });
    if (before.report === undefined) {
      const later = `Requested in ${path}. Its sitter doesn't answer; it takes the request up when it starts.`;
      terminal.print(json ? JSON.stringify({ peer: self.zoneId, request: path, done: false, tookMs: null }) : later);
      return 0;
    }
    const limitMs = given.timeout === undefined ? Infinity : given.timeout * 1000;
    const tookMs = await follow(access, { config, path, limitMs });
    const done = `Done after ${(tookMs / 1000).toFixed(1)} s: ${self.zoneId} is rebuilt.`;
    terminal.print(
      json ? JSON.stringify({ peer: self.zoneId, request: path, done: true, tookMs: Math.round(tookMs) }) : done,
    );
    return 0;
  });
}

async function tellPlan(
  context: AdminContext,
  { json, ...known }: { config: SitterConfig; state: ShardState; wish: RebuildWish; json: boolean },
): Promise<void> {
  const { terminal } = context;
  const { config, state } = known;
  const { facts, waits } = await rebuildFacts(context, known);
  const view: RebuildView = {
    peer: config.self.zoneId,
    nameOf: (id) => entryOf(state, id)?.zoneId ?? id,
    plan: planRebuild(facts),
    waits,
  };
  if (json) return terminal.print(planJson(view));
  terminal.print(`Dry run: nothing is written. The request would be ${rebuildRequestPath(config)}.`);
  for (const line of planLines(view)) terminal.print(line);
}

/** R1: never a peer that is named primary or sync. */
function checkRole(state: ShardState, { self }: SitterConfig): void {
  const role = roleOf(state, self.id);
  if (role !== "primary" && role !== "sync") return;
  throw new ManateeError({
    code: "ADMIN_REBUILD_REFUSED",
    message: `this host's peer ${self.id} is the ${role}: what it holds may be the only copy`,
    remedy: "operator",
    hint:
      role === "sync"
        ? "Let an async take its place first: manatee-adm promote -r async -i 0."
        : "Switch over first: manatee-adm promote -r sync.",
  });
}

/** Resolves with how long it took. */
async function follow(
  { context }: ShardAccess,
  { config, path, limitMs }: { config: SitterConfig; path: string; limitMs: number },
): Promise<Ms> {
  const { terminal, world } = context;
  const began = world.clock.now();
  let told = "";
  while ((await world.files.read(path)) !== undefined) {
    const { report } = await askPeer(world.network, config.self);
    const job = report?.postgres.job;
    const now =
      report === undefined
        ? "its sitter doesn't answer"
        : job
          ? `${job.kind}${job.progress === null ? "" : ` ${job.progress}`}`
          : `${report.decision.because}${report.decision.waitingOn === null ? "" : `; waits for ${report.decision.waitingOn}`}`;
    if (now !== told) terminal.note(`${((world.clock.now() - began) / 1000).toFixed(1).padStart(5)} s  ${now}`);
    told = now;
    if (world.clock.now() - began > limitMs)
      throw new ManateeError({
        code: "ADMIN_NOT_REACHED",
        message: `not reached within ${limitMs / 1000} s: ${told}`,
        remedy: "operator",
        hint: "The request stays; see the sitter's log, or remove the file to take it back.",
      });
    await sleep(context, LOOK_EVERY_MS);
  }
  return world.clock.now() - began;
}
