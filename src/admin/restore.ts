// `state restore`, B1's way out: the document is gone (or can't be read, or is older than one that was seen) while peers hold data. Nobody guesses; an operator chooses one of the
// documents that the peers kept, or one of the history.

import { ManateeError } from "../base/errors.ts";
import { formatLineage } from "../base/lineage.ts";
import { decodeState, encodeState, generationIn } from "../cluster/codec.ts";
import { checkTransition } from "../cluster/invariants.ts";
import { chainOf, roleOf, type ShardState, shortName } from "../cluster/state.ts";
import type { HistoryEntry } from "../shard/port.ts";
import { broken, confirm } from "./change.ts";
import { type ChangeCommandOptions, changeOptions } from "./change-options.ts";
import { type ShardAccess, withShard } from "./connect.ts";
import type { AdminContext } from "./context.ts";
import { isoTime } from "../base/text.ts";
import { printTable } from "./output.ts";
import { type Picture, takePicture } from "./picture.ts";
import type { ExitStatus } from "./program.ts";
import { type Standing, standings } from "./standings.ts";
import type { Column } from "./table.ts";
import { shardTarget, WAIT_TIMEOUT_MS } from "./target.ts";
import { doing, type Progress, waitFor } from "./wait.ts";
import { WrongUse } from "./wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly zonename?: string;
  readonly history?: string;
}

interface Candidate {
  /** As it is chosen: a peer's short name, or `history 12`. */
  readonly name: string;
  readonly source: string;
  readonly version: number | undefined;
  readonly state: ShardState;
  readonly standing: Standing | undefined;
}

export async function restoreState(context: AdminContext, given: Options): Promise<ExitStatus> {
  const options = changeOptions(given);
  if (given.zonename !== undefined && given.history !== undefined)
    throw new WrongUse("options exclude each other: --zonename and --history");
  if (given.history !== undefined && !/^\d{1,10}$/.test(given.history))
    throw new WrongUse(
      `option --history takes a number as manatee-adm history -j shows it (zkSeq), not "${given.history}"`,
    );
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const picture = await takePicture(access);
    refuseIfGood(picture);
    const history = await access.shard.readHistory();
    const candidates = [...ofPeers(picture), ...ofHistory(history, given.history)];
    printTable(context.terminal, COLUMNS, candidates);
    const chosen = await choose(access, candidates, given);
    const state = restored(chosen, candidates, history, picture);
    const violations = checkTransition(undefined, state, { kind: "restore" });
    if (violations.length > 0) throw broken(violations);
    tell(access, chosen, state);
    if (options.dryRun === true) {
      context.terminal.print("Dry run: nothing is written. The document would be:");
      context.terminal.print(JSON.stringify(JSON.parse(encodeState(state)), undefined, 2));
      return 0;
    }
    await confirm(access, options, "refuse");
    await write(access, picture, { state, versionAbove: highestVersion(candidates, history, picture) });
    await waitFor(access, given.timeout === undefined ? WAIT_TIMEOUT_MS : given.timeout * 1000, progress);
    return 0;
  });
}

const COLUMNS: readonly Column<Candidate>[] = [
  { name: "name", label: "DOCUMENT", width: 12, value: ({ name }) => name },
  { name: "generation", label: "G#", width: 4, align: "right", value: ({ state }) => String(state.generation) },
  {
    name: "version",
    label: "VERSION",
    width: 7,
    align: "right",
    value: ({ version }) => (version === undefined ? "-" : String(version)),
  },
  { name: "primary", label: "PRIMARY", width: 8, value: ({ state }) => shortName(state.primary) },
  { name: "sync", label: "SYNC", width: 8, value: ({ state }) => (state.sync === null ? "-" : shortName(state.sync)) },
  {
    name: "position",
    label: "POSITION",
    width: 12,
    value: ({ standing }) => standing?.asked.report?.postgres.walEnd ?? "-",
  },
  {
    name: "lineage",
    label: "TIMELINE",
    width: 14,
    value: ({ standing }) => (standing?.lineage === undefined ? "-" : formatLineage(standing.lineage)),
  },
  { name: "source", label: "FROM", width: 10, value: ({ source }) => source },
];

/** It can be read, and no peer has seen a newer one: then it was not put back to what it once was. */
function refuseIfGood({ view, peers }: Picture): void {
  if (view.kind !== "document") return;
  const { generation } = view.state;
  if (Object.values(peers).some(({ report }) => generationIn(report?.lastDocument?.json ?? "") > generation)) return;
  throw new ManateeError({
    code: "ADMIN_RESTORE_REFUSED",
    message: `there is a state document, of generation ${view.state.generation}, and it can be read`,
    remedy: "operator",
    hint: "Use promote, takeover, freeze or reap to change it.",
  });
}

/** The peers' last documents, the newest first. After a restore versions begin anew, generations go on. */
function ofPeers(picture: Picture): Candidate[] {
  return standings(picture, () => "-")
    .flatMap((standing) => {
      const { peer, report } = standing.asked;
      const last = report?.lastDocument;
      const decoded = last == null ? undefined : decodeState(last.json);
      if (last == null || decoded?.kind !== "state") return [];
      return [{ name: shortName(peer), source: peer.id, version: last.version, state: decoded.state, standing }];
    })
    .sort((a, b) => b.state.generation - a.state.generation || b.version - a.version);
}

/** The newest readable entry, and the one that was asked for. */
function ofHistory(history: readonly HistoryEntry[], wanted: string | undefined): Candidate[] {
  const newest = history.findLast(({ state }) => state !== undefined);
  const asked = wanted === undefined ? undefined : history.find(({ sequence }) => sequence === Number(wanted));
  return [...new Set([newest, asked])].flatMap((entry) =>
    entry?.state === undefined
      ? []
      : [
          {
            name: `history ${entry.sequence}`,
            source: isoTime(entry.writtenWallMs),
            version: entry.state.written?.version,
            state: entry.state,
            standing: undefined,
          },
        ],
  );
}

async function choose(
  { context }: ShardAccess,
  candidates: readonly Candidate[],
  { zonename, history, yes, ignorePrompts }: Options,
): Promise<Candidate> {
  const find = (name: string) =>
    candidates.find(
      (each) =>
        each.name === name || each.standing?.asked.peer.zoneId === name || each.standing?.asked.peer.id === name,
    );
  const asked = zonename ?? (history === undefined ? undefined : `history ${history}`);
  if (asked !== undefined) {
    const found = find(asked);
    if (found !== undefined) return found;
    throw noDocument(`${asked} has no document that can be read`, "Choose one of those shown.");
  }
  if (candidates.length === 0)
    throw noDocument(
      "no peer that answers kept a document, and the history has none",
      "Start the sitters of the peers that hold data.",
    );
  const { terminal } = context;
  const unattended = yes === true || ignorePrompts === true || !terminal.interactive;
  if (unattended) throw new WrongUse("option is required: --zonename (or --history)");
  const answer = (await terminal.ask(`Which document? [${candidates[0]?.name}] `))?.trim();
  const found = answer === undefined || answer === "" ? candidates[0] : find(answer);
  if (found === undefined)
    throw noDocument(`${answer} is none of the documents shown`, "Name one as it stands in the first column.");
  return found;
}

/** Generation and timeline above all that anybody knows of: whatever was decided on a lost document can't be mistaken for this one. */
function restored(
  { state, name }: Candidate,
  candidates: readonly Candidate[],
  history: readonly HistoryEntry[],
  picture: Picture,
): ShardState {
  const present = picture.view.kind === "document" ? [picture.view.state] : [];
  const known = [...present, ...candidates.map((each) => each.state), ...history.flatMap((entry) => entry.state ?? [])];
  const reports = Object.values(picture.peers).flatMap(({ report }) => report ?? []);
  const written = history.map(({ raw }) => generationIn(raw));
  const generation =
    Math.max(...known.map((each) => each.generation), ...written, ...reports.map((report) => report.generation ?? 0)) +
    1;
  const highestTimeline = Math.max(
    ...known.map((each) => each.highestTimeline),
    ...reports.map(({ postgres }) => postgres.timeline ?? 1),
  );
  return {
    ...state,
    generation,
    highestTimeline,
    promote: undefined,
    malformedPromote: undefined,
    written: undefined,
    rule: "B1",
    reason: `restored by an operator from ${name} (generation ${state.generation})`,
  };
}

function tell({ context }: ShardAccess, { name }: Candidate, state: ShardState): void {
  const peers = chainOf(state).map((peer) => `"${shortName(peer)}" ${roleOf(state, peer.id)}`);
  context.terminal.note(`Writes the document of ${name} as generation ${state.generation}: ${peers.join(", ")}.`);
  context.terminal.note("If a newer document existed that no peer here saw, what was decided in it is undone.");
}

/** Of the document that was lost, as far as anybody knows. */
function highestVersion(candidates: readonly Candidate[], history: readonly HistoryEntry[], picture: Picture): number {
  const reports = Object.values(picture.peers).map(({ report }) => report?.version ?? 0);
  const written = history.map(({ state }) => state?.written?.version ?? 0);
  return Math.max(0, history.length, ...candidates.map(({ version }) => version ?? 0), ...reports, ...written);
}

async function write(
  { context, shard }: ShardAccess,
  { view }: Picture,
  { state, versionAbove }: { state: ShardState; versionAbove: number },
): Promise<void> {
  const node =
    view.kind === "absent" ? undefined : await shard.session.read(`${shard.path}/state`, { confirmed: true });
  if (node === undefined) await shard.prepare();
  const outcome = await shard.writeState({ state, version: node?.version, versionAbove, by: context.author });
  if (outcome.kind === "yes") return;
  if (outcome.kind === "unsent") throw outcome.error;
  throw new ManateeError({
    code: "ADMIN_WRITE_CONFLICT",
    message:
      outcome.kind === "no"
        ? `the store refuses the write: ${outcome.refusal}`
        : "the connection broke, and whether the write happened is not known",
    remedy: "operator",
    hint: "Look at manatee-adm show, and decide anew.",
  });
}

function progress(picture: Picture): Progress {
  const { view } = picture;
  if (view.kind !== "document") return { kind: "waiting", what: "the document to be readable" };
  const { primary } = view.state;
  if (picture.peers[primary.id]?.report?.postgres.gate === "open" && !view.state.provisional)
    return {
      kind: "reached",
      what: `"${shortName(primary)}" is primary and open to clients, generation ${view.state.generation}`,
    };
  return { kind: "waiting", what: doing(picture, primary.id) };
}

function noDocument(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "ADMIN_NO_DOCUMENT", message, remedy: "operator", hint });
}
