// What every rule works with: the observation with the state spelt out, and how a rule says what to do or what it waits for.

import type { Ms } from "../base/units.ts";
import type { Action, Memory, RuleName, Waits } from "./decision.ts";
import type {
  ElectionEntry,
  Observation,
  PostgresSettings,
  PrimaryServer,
  StandbyServer,
  Walsender,
} from "./observation.ts";
import { addressOf, type PeerAddress, type PeerEntry, type Role, type ShardState } from "./state.ts";
import type { PeerId } from "../base/peer-id.ts";

/** An observation in which the state document is known. */
export interface Scene {
  readonly obs: Observation;
  readonly memory: Memory;
  readonly state: ShardState;
  readonly version: number;
  readonly role: Role;
  readonly me: PeerId;
}

export type PrimaryScene = Scene & { readonly server: PrimaryServer };
export type StandbyScene = Scene & { readonly server: StandbyServer };

/** What a rule returns; `decide` completes it. */
export interface Step {
  readonly rule: RuleName;
  readonly because: string;
  readonly waitingOn?: string;
  readonly operator?: string;
  readonly settings?: PostgresSettings;
  readonly action?: Action;
  readonly cancelJob?: boolean;
  readonly memory?: Partial<Memory>;
  readonly lookAgainAfterMs?: Ms;
}

/** O2, the last resort: what an operator is told where nobody can take over by the rules. */
export const FORCE_TAKEOVER = "manatee-adm takeover --accept-loss";
/** For a standby whose replay somebody (or a setting lower than its primary's, which its log names then) has paused. */
export const RESUME_REPLAY = "select pg_wal_replay_resume()";
/** Where this peer itself is what can't go on. */
export const FORCE_TAKEOVER_ELSEWHERE = `${FORCE_TAKEOVER}, on another peer`;

/** Steps that depend on what PostgreSQL shows only when asked are looked at this often. */
export const SOON_MS: Ms = 50;
/** Without any event. */
export const IDLE_MS: Ms = 1000;

/** A failed action is tried again after this long, doubled with each failure in a row, up to the second figure: a server that fails to start for an hour is tried every ten seconds. */
const RETRY_MS: Ms = 200;
const RETRY_MAX_MS: Ms = 10_000;
/** So many failures in a row are not a passing trouble: an operator is asked. */
const OPERATOR_AFTER = 3;

/** The action, or, while the last one of its kind has failed just now, a wait that tells the failure. */
export function attempt(obs: Observation, step: Step & { readonly action: Action }): Step {
  const { failure } = obs.postgres;
  if (!failure || failure.action !== step.action.kind) return step;
  const delay = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(failure.count - 1, 10));
  if (obs.now - failure.at >= delay) return step;
  const { action: _, memory: __, ...rest } = step;
  return {
    ...rest,
    waitingOn: `another try of ${failure.action}, which failed (${failure.code}: ${failure.message})`,
    ...(failure.count >= OPERATOR_AFTER && { operator: failure.hint }),
    lookAgainAfterMs: Math.max(1, failure.at + delay - obs.now),
  };
}

export function connected(obs: Observation): boolean {
  return obs.store.connection.kind === "connected";
}

/** The newest election node of that peer. */
export function electionEntryOf(obs: Observation, id: PeerId): ElectionEntry | undefined {
  return obs.store.election.find((entry) => entry.peer.id === id);
}

/** Whether that peer is in the election under the incarnation that the entry names. */
export function presentAs(obs: Observation, entry: PeerEntry): boolean {
  const found = electionEntryOf(obs, entry.id)?.announcement;
  return found !== undefined && entry.incarnation !== undefined && found.incarnation === entry.incarnation;
}

/** The walsender that serves this peer, told by name and address: a name alone is a vote that anybody could cast. */
export function walsenderOf(
  server: { readonly walsenders: readonly Walsender[] },
  peer: PeerAddress,
): Walsender | undefined {
  const found = server.walsenders.filter(
    (w) =>
      w.name === peer.pgUrl &&
      w.state !== "backup" &&
      !isAhead(w) &&
      (w.clientAddress === undefined || w.clientAddress === peer.ip),
  );
  return found.find((w) => w.state === "streaming") ?? found[0];
}

/**
 * A standby that holds more than it was sent has WAL of another history. PostgreSQL lets it in all the same, for as long as it takes the standby to notice,
 * and believes the position that it reports; here its word counts for nothing.
 */
export function isAhead({ state, sent, flush, replay }: Walsender): boolean {
  if (state !== "streaming") return false;
  return sent === undefined ? flush !== undefined : (flush ?? sent) > sent || (replay ?? sent) > sent;
}

export function streamsFrom(server: { readonly walsenders: readonly Walsender[] }, peer: PeerAddress): boolean {
  return walsenderOf(server, peer)?.state === "streaming";
}

/** How long something has been so, by memory's note under that name; 0 where it is not noted yet. */
export function waited(
  scene: { readonly obs: Observation; readonly memory: Memory },
  name: Exclude<keyof Waits, "avoided">,
): Ms {
  const since = scene.memory.waits[name];
  return since === undefined ? 0 : scene.obs.now - since;
}

export function entryFrom(peer: PeerAddress, incarnation: string | undefined, known?: PeerEntry): PeerEntry {
  return { ...addressOf(peer), incarnation, extra: known?.extra ?? {} };
}

/**
 * Writes the state on the version that was read, and remembers that as sent until a newer version is read. One write at a time: while the end of one is not
 * known, this only waits. A fence alone is sent all the same, once {@link isOutcomeLost}: it is what ends the wait.
 */
export function writeStep(
  scene: Scene,
  what: NonNullable<Memory["sent"]>["what"],
  state: ShardState,
  step: Omit<Step, "action">,
): Step {
  const { sent } = scene.memory;
  const endsLost = sent !== undefined && what === "FENCE" && isOutcomeLost(scene);
  if (sent && !endsLost)
    return {
      ...step,
      waitingOn: `the outcome of the write sent on version ${sent.version}`,
      lookAgainAfterMs: SOON_MS * 4,
    };
  if (!connected(scene.obs)) return { ...step, waitingOn: "the coordination store, which is out of reach" };
  const token = `${what}:${scene.version}:${scene.obs.nonce}`;
  return {
    ...step,
    action: {
      kind: "write",
      state: { ...state, rule: step.rule, reason: step.because },
      version: scene.version,
      token,
    },
    memory: {
      ...step.memory,
      // The one before may still land, in place of this fence: until a newer version is read, this peer goes on as is right for that one (a claim, say).
      sent: {
        version: scene.version,
        token,
        what: endsLost ? sent.what : what,
        rule: step.rule,
        at: scene.obs.now,
        doubtful: endsLost,
      },
    },
  };
}

/**
 * Nobody will tell any more what became of the write that was sent: its outcome is unknown, and the suspect time is over. The write itself may still land; a
 * fence ends that. Of a fence that was sent for this, a "no" tells as little (see `doubtful`).
 */
export function isOutcomeLost({ memory, obs }: Scene): boolean {
  const { sent } = memory;
  if (sent === undefined || obs.store.lastWrite?.token !== sent.token) return false;
  const { outcome } = obs.store.lastWrite;
  const open = outcome === "unknown" || (sent.doubtful && outcome === "no");
  return open && obs.now - sent.at >= obs.policy.suspectMs;
}

/** FENCE: raises the version, so that no write sent before can land any more. */
export function fenceStep(
  scene: Scene,
  because: string,
  { settings, change = {} }: { settings?: PostgresSettings; change?: Partial<ShardState> } = {},
): Step {
  return writeStep(
    scene,
    "FENCE",
    { ...scene.state, ...change },
    { rule: "FENCE", because, ...(settings && { settings }) },
  );
}
