import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { isoTime } from "../../base/text.ts";
import { membersOf, type PeerAddress, type ShardState, shortName } from "../../cluster/state.ts";
import type { HistoryEntry } from "../../shard/port.ts";
import type { JournalEntry } from "../../status/report.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { type Change, type Phase, phasesOf, spanOf } from "../failover.ts";
import { examples } from "../output.ts";
import { paint } from "../paint.ts";
import { askJournal } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { addShardOptions, shardTarget, type TargetOptions } from "../target.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends TargetOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** Machines' clocks differ, and the store's from theirs. */
const AROUND_MS = 120_000;
/** Told of what came before the first sign, and after clients were let in. */
const MARGIN_MS = 2_000;

export function define(command: Command, run: Run): void {
  addShardOptions(command)
    .argument("[GENERATION]", "the one that began with it; the last change of the primary otherwise")
    .option("-v, --verbose", "who saw and did what, on all peers")
    .option("-j, --json", "all of it as JSON")
    .addHelpText(
      "after",
      `${examples("explain-failover -s 1", "explain-failover -s 1 -v 7")}\n\nFrom the history in the store, and from what the sitters keep in memory of their logs since they started. Times are those of each\npeer's own clock.`,
    )
    .action(run(explain));
}

async function explain(context: AdminContext, options: Options, args: readonly string[]): Promise<ExitStatus> {
  const wanted = args[0] === undefined ? undefined : generationOf(args[0]);
  return withShard(context, await shardTarget(context, options), async ({ shard }): Promise<ExitStatus> => {
    const { terminal, world } = context;
    const { entry, state, before } = findChange(await shard.readHistory(), wanted);
    const change: Change = { generation: state.generation, from: before.primary.id, to: state.primary.id };
    const around = { fromWallMs: entry.writtenWallMs - AROUND_MS, toWallMs: entry.writtenWallMs + AROUND_MS };
    const asked = await Promise.all(
      peersOf(state, before).map(async (peer) => ({ peer, entries: await askJournal(world.network, peer, around) })),
    );
    const own = asked.find(({ peer }) => peer.id === change.to)?.entries ?? [];
    const phases = phasesOf(own, change);
    const span = spanOf(own, change) ?? { begin: entry.writtenWallMs, end: entry.writtenWallMs };
    const events = eventsOf(asked, span);
    const silent = asked.filter(({ entries }) => entries === undefined).map(({ peer }) => peer);
    if (options.json === true) {
      const { rule, reason, generation } = state;
      const phasesJson = phases.map(({ name, ms, advice }) => ({ name, ms: Math.round(ms), advice }));
      const { from, to } = change;
      terminal.print(
        JSON.stringify(
          {
            generation,
            time: isoTime(entry.writtenWallMs),
            from,
            to,
            rule,
            reason,
            phases: phasesJson,
            events: events.map(({ peer, entry: { wallMs, message, fields } }) => ({
              time: isoTime(wallMs),
              peer: peer.id,
              message,
              fields,
            })),
            notAsked: silent.map(({ id }) => id),
          },
          undefined,
          2,
        ),
      );
      return 0;
    }
    terminal.print(
      `Generation ${state.generation}, ${isoTime(entry.writtenWallMs)}: ${shortName(state.primary)} took over from ${shortName(before.primary)}.`,
    );
    terminal.print(`${state.rule}: ${state.reason}`);
    printPhases(context, phases);
    if (options.verbose === true) printEvents(context, events, span.begin);
    for (const peer of silent)
      terminal.note(
        `${paint(terminal.noteColour, "yellow", "warning:")} ${shortName(peer)}'s sitter did not tell its journal`,
      );
    if (phases.length === 0)
      terminal.note(
        `${shortName(state.primary)}'s journal does not reach back to it: sitters keep it in memory only. Its log has the same lines.`,
      );
    return 0;
  });
}

function generationOf(text: string): number {
  const generation = Number(text);
  if (Number.isInteger(generation) && generation > 0) return generation;
  throw new WrongUse(`GENERATION is a whole number above 0, not "${text}"`);
}

/** The entry with which another peer became primary, and the state before it. */
function findChange(
  history: readonly HistoryEntry[],
  wanted: number | undefined,
): { readonly entry: HistoryEntry; readonly state: ShardState; readonly before: ShardState } {
  const changes = history.flatMap((entry, at) => {
    const [state, before] = [entry.state, history[at - 1]?.state];
    return state && before && state.primary.id !== before.primary.id ? [{ entry, state, before }] : [];
  });
  const found = wanted === undefined ? changes.at(-1) : changes.find(({ state }) => state.generation === wanted);
  if (found) return found;
  const known = changes.map(({ state }) => state.generation);
  throw new ManateeError({
    code: "ADMIN_NO_FAILOVER",
    message:
      wanted === undefined
        ? "the primary never changed, as far as the history reaches"
        : `generation ${wanted} did not begin with another primary`,
    remedy: "operator",
    hint: known.length === 0 ? "See manatee-adm history -v." : `Generations that did: ${known.join(", ")}.`,
  });
}

function peersOf(state: ShardState, before: ShardState): readonly PeerAddress[] {
  const now = membersOf(state);
  return [...now, ...membersOf(before).filter(({ id }) => !now.some((peer) => peer.id === id))];
}

interface Event {
  readonly peer: PeerAddress;
  readonly entry: JournalEntry;
}

const TOLD: ReadonlySet<string> = new Set([
  "evidence about a peer",
  "decision",
  "state read",
  "state written",
  "state not written",
  "PostgreSQL",
  "action",
  "action failed",
  "job ended",
]);

function eventsOf(
  asked: readonly { readonly peer: PeerAddress; readonly entries: readonly JournalEntry[] | undefined }[],
  { begin, end }: { begin: number; end: number },
): readonly Event[] {
  return asked
    .flatMap(({ peer, entries = [] }) => entries.map((entry) => ({ peer, entry })))
    .filter(
      ({ entry: { wallMs, message } }) => TOLD.has(message) && wallMs >= begin - MARGIN_MS && wallMs <= end + MARGIN_MS,
    )
    .sort((a, b) => a.entry.wallMs - b.entry.wallMs);
}

function printPhases({ terminal }: AdminContext, phases: readonly Phase[]): void {
  if (phases.length === 0) return;
  terminal.print("");
  const total = phases.reduce((sum, { ms }) => sum + ms, 0);
  for (const { name, ms } of phases) terminal.print(`${milliseconds(ms)}  ${name}`);
  terminal.print(`${milliseconds(total)}  in all, on the peer that took over`);
  const longest = [...phases].sort((a, b) => b.ms - a.ms)[0];
  if (longest === undefined) return;
  terminal.print("");
  terminal.print(`Longest: ${longest.name}. What makes it shorter: ${longest.advice}.`);
}

function printEvents({ terminal }: AdminContext, events: readonly Event[], begin: number): void {
  terminal.print("");
  for (const { peer, entry } of events) {
    const at = ((entry.wallMs - begin) / 1000).toFixed(3);
    terminal.print(
      `${(at.startsWith("-") ? at : `+${at}`).padStart(9)} s  ${shortName(peer).padEnd(8)}  ${told(entry)}`,
    );
  }
}

/** A line of the log, without what its kind says already. */
function told({ message, fields }: JournalEntry): string {
  const text = (name: string) => (typeof fields[name] === "string" ? fields[name] : JSON.stringify(fields[name] ?? ""));
  if (message === "decision")
    return [
      `${text("rule")}  ${text("because")}`,
      ...(fields["action"] === undefined ? [] : [`does: ${text("action")}`]),
      ...(fields["waitingOn"] === undefined ? [] : [`waits for ${text("waitingOn")}`]),
    ].join("; ");
  const parts = Object.keys(fields).filter((name) => fields[name] !== undefined && fields[name] !== null);
  return `${message}  ${parts.map((name) => `${name}=${text(name)}`).join(" ")}`;
}

function milliseconds(ms: number): string {
  return `${String(Math.round(ms)).padStart(7)} ms`;
}
