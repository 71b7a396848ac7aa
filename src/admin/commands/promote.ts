import type { Command } from "commander";
import { ManateeError } from "../../base/errors.ts";
import { type PeerEntry, type PromoteRequest, roleOf, type ShardState, shortName } from "../../cluster/state.ts";
import { confirm, readDocument, writeChange, type Written } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { type ShardAccess, withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { findPeer } from "../find-peer.ts";
import { findingLine, judge, problemsOf } from "../findings.ts";
import { isoTime } from "../../base/text.ts";
import { examples } from "../output.ts";
import { formatLag } from "../peer-rows.ts";
import { type Picture, takePicture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget, WAIT_TIMEOUT_MS } from "../target.ts";
import { doing, type Progress, waitFor } from "../wait.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly zonename?: string;
  readonly role?: string;
  readonly asyncIndex?: string;
  readonly lag?: string;
}

interface Wanted {
  readonly zonename: string;
  readonly role: "sync" | "async";
  readonly asyncIndex: number | undefined;
}

/** The original's: the primary clears a request that is older (T3). */
const EXPIRES_AFTER_MS = 30_000;
const LAG_SECONDS = 5;

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-n, --zonename <ZONENAME>", "the peer (required)")
    .option("-r, --role <ROLE>", "the role that it has now: sync or async (required)")
    .option("-i, --asyncIndex <INDEX>", "its place among the asyncs, from 0 (required for an async)")
    .option("-l, --lag <SECONDS>", `warn if it is further behind than that (${LAG_SECONDS})`)
    .addHelpText(
      "after",
      `${examples("promote -s 1 -r sync -n 0b1de6d6", "promote -s 1 -r async -i 0 -n 7a8f0b2c -y")}\n\nA sync becomes primary, and the primary an async. An async changes places with the peer before it.`,
    )
    .action(run(promote));
}

async function promote(context: AdminContext, given: Options): Promise<ExitStatus> {
  const wanted = wantedOf(given);
  const lagMax = given.lag === undefined ? LAG_SECONDS : Number(given.lag);
  if (!(lagMax >= 0)) throw new WrongUse(`option --lag takes a number of seconds, not "${given.lag}"`);
  const options = changeOptions(given);
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    const peer = checkRequest(document.state, wanted);
    const picture = await takePicture(access);
    await tell(access, document.state, { peer, wanted, lagMax, picture });
    await confirm(access, options, "refuse");
    const expireTime = isoTime(context.world.clock.wall() + EXPIRES_AFTER_MS);
    const written = await writeChange(access, document, changeOf(wanted, peer, expireTime), options);
    if (written === undefined) return 0;
    await waitFor(access, given.timeout === undefined ? WAIT_TIMEOUT_MS : given.timeout * 1000, (now) =>
      progress(now, written, peer, wanted),
    );
    return 0;
  });
}

function wantedOf({ zonename, role, asyncIndex }: Options): Wanted {
  if (zonename === undefined) throw new WrongUse("option is required: --zonename");
  if (role === undefined) throw new WrongUse("option is required: --role");
  if (role !== "sync" && role !== "async") throw new WrongUse(`option --role takes sync or async, not "${role}"`);
  if (role === "sync") {
    if (asyncIndex !== undefined) throw new WrongUse("option --asyncIndex goes with --role async only");
    return { zonename, role, asyncIndex: undefined };
  }
  if (asyncIndex === undefined) throw new WrongUse("option is required: --asyncIndex");
  if (!/^\d{1,4}$/.test(asyncIndex))
    throw new WrongUse(`option --asyncIndex takes a number from 0 on, not "${asyncIndex}"`);
  return { zonename, role, asyncIndex: Number(asyncIndex) };
}

/** Refused outright: what no sitter would carry out. */
function checkRequest(state: ShardState, { zonename, role, asyncIndex }: Wanted): PeerEntry {
  if (state.freeze !== undefined) throw refused("the shard is frozen", "Run manatee-adm unfreeze first.");
  if (state.oneNodeWriteMode)
    throw refused("the shard is in one-node-write mode", "Run manatee-adm set-onwm -m off first.");
  if (state.promote !== undefined)
    throw refused(
      `a request to promote ${state.promote.id} is there already`,
      "Wait for its end, or take it back with manatee-adm clear-promote.",
    );
  const peer = findPeer(state, { zonename, ip: undefined });
  const actual = roleOf(state, peer.id);
  if (actual !== role) throw refused(`peer "${shortName(peer)}" is ${actual}, not ${role}`, "See manatee-adm peers.");
  const index = state.async.findIndex(({ id }) => id === peer.id);
  if (role === "async" && index !== asyncIndex)
    throw refused(
      `peer "${shortName(peer)}" is async ${index}, not async ${asyncIndex}`,
      "See manatee-adm peers: the asyncs stand in their order, from 0 on.",
    );
  return peer;
}

function refused(message: string, hint: string): ManateeError {
  return new ManateeError({ code: "ADMIN_PROMOTE_REFUSED", message, remedy: "operator", hint });
}

async function tell(
  access: ShardAccess,
  state: ShardState,
  asked: { peer: PeerEntry; wanted: Wanted; lagMax: number; picture: Picture },
): Promise<void> {
  const { terminal } = access.context;
  const { peer, wanted, lagMax, picture } = asked;
  for (const problem of problemsOf(await judge(access, picture)))
    terminal.note(findingLine(problem, terminal.noteColour));
  const lag = picture.peers[peer.id]?.report?.postgres.lagSeconds;
  if (lag === undefined || lag === null) terminal.note(`warning: how far "${shortName(peer)}" is behind is not known`);
  else if (lag > lagMax)
    terminal.note(`warning: "${shortName(peer)}" is ${formatLag(lag)} behind, more than ${formatLag(lagMax)}`);
  const name = `"${shortName(peer)}"`;
  if (wanted.role === "sync")
    terminal.note(
      `Switches over: ${name} becomes primary, the primary "${shortName(state.primary)}" an async. Clients are disconnected.`,
    );
  else if (wanted.asyncIndex === 0)
    terminal.note(
      `${name} becomes sync, and the sync ${state.sync === null ? "" : `"${shortName(state.sync)}" `}the first async.`,
    );
  else terminal.note(`${name} changes places with the async before it.`);
}

function changeOf(wanted: Wanted, peer: PeerEntry, expireTime: string) {
  const apply = (state: ShardState): ShardState => {
    checkRequest(state, wanted);
    const request: PromoteRequest = {
      id: peer.id,
      role: wanted.role,
      asyncIndex: wanted.asyncIndex,
      generation: state.generation,
      expireTime,
    };
    return { ...state, promote: request };
  };
  return {
    kind: "operator",
    rule: "T3",
    reason: `an operator asks to promote ${peer.id}, now ${wanted.role}`,
    apply,
  } as const;
}

/** As the original: until the request is gone and the peer has another role (or place). */
function progress(picture: Picture, written: Written, peer: PeerEntry, wanted: Wanted): Progress {
  const { view } = picture;
  if (view.kind !== "document") return { kind: "waiting", what: "the document to be readable again" };
  const { state } = view;
  const role = roleOf(state, peer.id);
  const index = state.async.findIndex(({ id }) => id === peer.id);
  const moved = role !== wanted.role || (wanted.role === "async" && index !== wanted.asyncIndex);
  const actor = wanted.role === "sync" && state.primary.id !== peer.id ? written.state.primary.id : state.primary.id;
  if (state.promote !== undefined) return { kind: "waiting", what: doing(picture, actor) };
  if (!moved)
    return {
      kind: "failed",
      what: `the request was taken away, and "${shortName(peer)}" is still ${role}: ${state.reason}`,
      hint: "See manatee-adm history -v for the reason.",
    };
  if (state.provisional) return { kind: "waiting", what: doing(picture, peer.id) };
  return {
    kind: "reached",
    what: `"${shortName(peer)}" is ${role === "async" ? `async ${index}` : role}, generation ${state.generation}`,
  };
}
