// What is known before a rebuild: what this host shows, what the sitters say, what the source's backup server has.

import { explainError } from "../base/errors.ts";
import { canFollow, formatPoint, type Lineage, parseLineage, parsePoint } from "../base/lineage.ts";
import type { RebuildWish } from "../cluster/rejoin-way.ts";
import { entryOf, type PeerAddress, type ShardState } from "../cluster/state.ts";
import type { SitterConfig } from "../config/types.ts";
import { type Known, known, type LocalFacts, type RebuildFacts, unknown } from "../postgres/rebuild-plan.ts";
import { newestToSend } from "../snapshots/choice.ts";
import type { PeerReport } from "../status/report.ts";
import type { AdminContext } from "./context.ts";
import { askPeer } from "./picture.ts";

export interface RebuildPicture {
  readonly facts: RebuildFacts;
  /** Why nothing would begin before something else has happened. */
  readonly waits: readonly string[];
}

export async function rebuildFacts(
  context: AdminContext,
  { config, state, wish }: { config: SitterConfig; state: ShardState; wish: RebuildWish },
): Promise<RebuildPicture> {
  const { network } = context.world;
  const from: PeerAddress = (wish.from === undefined ? undefined : entryOf(state, wish.from)) ?? state.primary;
  const look = await context.rebuildLook(config);
  const [local, sourceBytes, own, primary, forksKept] = await Promise.all([
    look.local(),
    look.sourceBytes(from),
    askPeer(network, config.self).then(({ report }) => report),
    askPeer(network, state.primary).then(({ report }) => report),
    forksOf(context, config),
  ]);
  const lineages = lineagesOf(own, primary);
  const facts: RebuildFacts = {
    wish,
    primary: state.primary.id,
    from: from.id,
    lineages,
    forked: forkedBy(own, lineages),
    hasData: hasData(own, local),
    fork: forkName(own, local),
    forksKept,
    forksKeptMax: config.policy.forksKeptMax,
    local,
    sourceBytes,
    sent: local.storage === undefined ? unknown("nobody was asked") : await sentBy(context, config, from),
  };
  const serves = primary?.postgres.state === "primary";
  const waits = serves ? [] : [`the primary ${state.primary.id} does not serve, as far as can be seen`];
  return { facts, waits };
}

function lineagesOf(
  own: PeerReport | undefined,
  primary: PeerReport | undefined,
): Known<{ readonly own: Lineage; readonly primary: Lineage }> {
  if (!own) return unknown("this peer's sitter does not answer");
  const mine = parseLineage(own.postgres.lineage ?? "");
  if (!mine) return unknown("this peer's sitter does not tell the timelines of its WAL");
  const theirs = primary?.postgres.state === "primary" ? parseLineage(primary.postgres.lineage ?? "") : undefined;
  if (!theirs) return unknown("the primary does not tell the timelines of its WAL");
  return known({ own: mine, primary: theirs });
}

/** As the rules compare: where this peer's WAL ends, with the timelines of the primary's. */
function forkedBy(own: PeerReport | undefined, lineages: RebuildFacts["lineages"]): Known<boolean> {
  if (own?.postgres.state === "no-data") return known(false);
  if (lineages.kind === "unknown") return lineages;
  const { state, timeline, walEnd, replayed } = (own as PeerReport).postgres;
  if (state !== "standby") return unknown(`its PostgreSQL is ${state}; it is compared while it runs as a standby`);
  const end = parsePoint(`${timeline}@${walEnd}`);
  if (!end || walEnd !== replayed) return unknown("it has not replayed all of its WAL yet");
  return known(!canFollow(lineages.value.primary, end));
}

function hasData(own: PeerReport | undefined, { mark, wal }: LocalFacts): boolean {
  if (mark.kind === "known" && mark.value?.incomplete === true) return false;
  return own ? own.postgres.state !== "no-data" : wal.kind === "known" || mark.kind === "known";
}

/** As R1 names it: like the content, or like the fork of an attempt before that kept the same. */
function forkName(own: PeerReport | undefined, { mark }: LocalFacts): Known<string> {
  if (mark.kind === "unknown") return mark;
  if (mark.value === undefined) return unknown("the data bears no mark; its fork gets a name of its own");
  const { leaving, incarnation } = mark.value;
  const end = `${own?.postgres.timeline}@${own?.postgres.walEnd}`;
  return known(leaving && formatPoint(leaving.end) === end ? leaving.fork : incarnation);
}

async function forksOf(context: AdminContext, config: SitterConfig): Promise<RebuildFacts["forksKept"]> {
  try {
    const forks = await context.forks(config);
    return known([...new Set((await forks.list()).map(({ name }) => name))]);
  } catch (error) {
    return unknown(explainError(error));
  }
}

async function sentBy(context: AdminContext, config: SitterConfig, from: PeerAddress): Promise<RebuildFacts["sent"]> {
  try {
    const { format, snapshots } = await (await context.backups(config)).list(from);
    return known({ format, newestBytes: newestToSend(snapshots)?.referencedBytes ?? undefined });
  } catch (error) {
    return unknown(explainError(error));
  }
}
