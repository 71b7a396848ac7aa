// How every command changes the document: show what will happen, ask, write conditionally, and read back. A conflict is looked at, never
// overwritten: the change is made again only if nothing that it was decided on has changed.

import { ManateeError } from "../base/errors.ts";
import { encodeState, isOriginals } from "../cluster/codec.ts";
import type { RuleName } from "../cluster/decision.ts";
import { checkTransition, type TransitionContext, type Violation } from "../cluster/invariants.ts";
import type { ShardState } from "../cluster/state.ts";
import { type ShardAccess, whenConnected } from "./connect.ts";
import { Failed, WrongUse } from "./wrong-use.ts";

export interface ChangeOptions {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

export interface Change {
  readonly kind: TransitionContext["kind"];
  readonly rule: RuleName;
  readonly reason: string;
  /** Invariants (by name) that this change may leave broken, because mending them is what it asks for. */
  readonly allowed?: readonly string[];
  /** Throws where the change can't be made to that document. */
  apply(state: ShardState): ShardState;
}

export interface Written {
  readonly state: ShardState;
  readonly version: number;
}

/** Each conflict means that somebody else wrote in between; more than a few of them in a row are a sign of trouble. */
const TRIES_MAX = 5;

export async function readDocument({ shard }: ShardAccess): Promise<Written> {
  const view = await shard.readState({ confirmed: true });
  if (view.kind === "document") return view;
  if (view.kind === "unreadable")
    throw new ManateeError({ code: view.code, message: view.message, remedy: "operator", hint: view.hint });
  throw new ManateeError({
    code: "STATE_ABSENT",
    message: `there is no state document for shard ${shard.path}`,
    remedy: "operator",
    hint: "Check the name of the shard; if the document was lost, use manatee-adm state restore.",
  });
}

/**
 * Asks on a terminal, unless told `-y`. `without`: what happens where nobody can be asked: commands that the original ran without a
 * question go on, the others refuse.
 */
export async function confirm(
  { context }: Pick<ShardAccess, "context">,
  options: ChangeOptions,
  without: "go on" | "refuse",
): Promise<void> {
  const { terminal } = context;
  if (options.yes === true || options.dryRun === true) return;
  if (!terminal.interactive) {
    if (without === "go on") return;
    throw new WrongUse("nobody can be asked here; option is required: --yes");
  }
  const answer = await terminal.ask("Go ahead? (yes/no) ");
  if (/^y(es)?$/i.test(answer?.trim() ?? "")) return;
  terminal.note("Nothing was changed.");
  throw new Failed("declined");
}

/** Returns what stands in the store afterwards; undefined after `--dry-run`. */
export async function writeChange(
  access: ShardAccess,
  from: Written,
  change: Change,
  options: ChangeOptions,
): Promise<Written | undefined> {
  let { state, version } = from;
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const next = nextState(state, change);
    if (options.dryRun === true) {
      access.context.terminal.print("Dry run: nothing is written. The document would be:");
      const written = { by: access.context.author, version: version + 1 };
      const signed = isOriginals(next) ? next : { ...next, written };
      access.context.terminal.print(JSON.stringify(JSON.parse(encodeState(signed)), undefined, 2));
      return undefined;
    }
    const outcome = await access.shard.writeState({ state: next, version, by: access.context.author });
    // The answer was lost with the connection: what stands there tells.
    if (outcome.kind === "unknown") await whenConnected(access.context, access.shard.session, access.target);
    const now = await readDocument(access);
    if (
      outcome.kind === "yes" ||
      isOurs(now, version, { ...next, written: { by: access.context.author, version: version + 1 } })
    )
      return now;
    if (outcome.kind === "unsent") throw outcome.error;
    // `unknown` and the version still the same: it may land late; the next try is conditional on the same version, so that one of the two can.
    if (now.version !== version && relevant(now.state) !== relevant(state)) throw changedMeanwhile(state, now.state);
    if (outcome.kind === "no" && outcome.refusal !== "bad-version") throw refused(outcome.refusal);
    ({ state, version } = now);
  }
  throw new ManateeError({
    code: "ADMIN_WRITE_CONFLICT",
    message: `somebody else wrote the document each of ${TRIES_MAX} times`,
    remedy: "operator",
    hint: "See manatee-adm history -v for who writes, then try again.",
  });
}

function nextState(state: ShardState, change: Change): ShardState {
  const changed = change.apply(state);
  // A document of the original stays one: with a rule alone it would be one of ours that lost all the rest.
  const next = isOriginals(changed) ? changed : { ...changed, rule: change.rule, reason: change.reason };
  // What is broken already is no reason against a change that doesn't break more: it may be the way out.
  const before = checkTransition(state, state, { kind: change.kind }).map(({ message }) => message);
  const violations = checkTransition(state, next, { kind: change.kind }).filter(
    ({ rule, message }) => !before.includes(message) && change.allowed?.includes(rule) !== true,
  );
  if (violations.length > 0) throw broken(violations);
  return next;
}

export function broken(violations: readonly Violation[]): ManateeError {
  return new ManateeError({
    code: "ADMIN_CHANGE_REFUSED",
    message: `the document would break a rule: ${violations.map(({ message }) => message).join("; ")}`,
    remedy: "operator",
    hint: "See manatee-adm verify for what has to be mended first.",
  });
}

/** Another run of this tool may have written something else in its place: the reason tells them apart. */
function isOurs({ state, version }: Written, condition: number, sent: ShardState): boolean {
  return (
    version === condition + 1 &&
    state.written?.version === version &&
    state.written.by === sent.written?.by &&
    state.rule === sent.rule &&
    state.reason === sent.reason
  );
}

/** What an operator saw when deciding: who is in which role, freeze, requests, modes. A raised version alone (FENCE) and other incarnations don't matter. */
function relevant({
  generation,
  primary,
  sync,
  async,
  deposed,
  freeze,
  promote,
  oneNodeWriteMode,
  provisional,
}: ShardState): string {
  const ids = [primary, sync, ...async, ...deposed].map((peer) => peer?.id ?? null);
  return JSON.stringify([
    generation,
    ids,
    async.length,
    deposed.length,
    freeze ?? null,
    promote ?? null,
    oneNodeWriteMode,
    provisional,
  ]);
}

function changedMeanwhile(before: ShardState, now: ShardState): ManateeError {
  return new ManateeError({
    code: "ADMIN_STATE_CHANGED",
    message: `the shard changed meanwhile: ${now.rule === "" ? "" : `${now.rule}, `}${now.reason || "no reason given"} (generation ${before.generation}, now ${now.generation})`,
    remedy: "operator",
    hint: "Look at manatee-adm show, and decide anew.",
  });
}

function refused(refusal: string): ManateeError {
  const hint =
    refusal === "not-permitted"
      ? "Set MANATEE_ZK_DIGEST to the user and password that the sitters have."
      : "See manatee-adm show, then try again.";
  return new ManateeError({
    code: "ADMIN_WRITE_REFUSED",
    message: `the store refuses the write: ${refusal}`,
    remedy: "operator",
    hint,
  });
}
