import type { Command } from "commander";
import { FREEZE_OF_MODE, type ShardState, shortName } from "../../cluster/state.ts";
import { confirm, readDocument, writeChange } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples } from "../output.ts";
import type { Picture } from "../picture.ts";
import type { ExitStatus, Run } from "../program.ts";
import { shardTarget, WAIT_TIMEOUT_MS } from "../target.ts";
import { doing, type Progress, waitFor } from "../wait.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly mode?: string;
}

const FREEZES_OF_THE_MODE: readonly string[] = Object.values(FREEZE_OF_MODE);

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .option("-m, --mode <MODE>", "on or off (required)")
    .addHelpText(
      "after",
      `${examples("set-onwm -s 1 -m off")}\n\nOn: commits wait for no second peer; losing the one that is left loses data. Off: the next peer that has caught up becomes sync.`,
    )
    .action(run(setOneNodeWriteMode));
}

async function setOneNodeWriteMode(context: AdminContext, given: Options): Promise<ExitStatus> {
  if (given.mode === undefined) throw new WrongUse("option is required: --mode");
  if (given.mode !== "on" && given.mode !== "off")
    throw new WrongUse(`option --mode takes on or off, not "${given.mode}"`);
  const on = given.mode === "on";
  const options = changeOptions(given);
  const { terminal } = context;
  return withShard(context, await shardTarget(context, given), async (access): Promise<ExitStatus> => {
    const document = await readDocument(access);
    if (document.state.oneNodeWriteMode === on) {
      terminal.print(`One-node-write mode is ${given.mode} already.`);
      return 0;
    }
    terminal.note(plan(document.state, on));
    await confirm(access, options, "refuse");
    const reason = `one-node-write mode was switched ${given.mode} by an operator`;
    // Without a sync the mode ends first, and the sync is named later (O1): the one document that has neither.
    const written = await writeChange(
      access,
      document,
      {
        kind: "operator",
        rule: "O1",
        reason,
        allowed: on ? [] : ["sync"],
        apply: (state) => withMode(state, on),
      },
      options,
    );
    if (written === undefined) return 0;
    if (!on && written.state.freeze !== undefined) {
      terminal.print("Written. The shard is frozen: a sync is named after manatee-adm unfreeze.");
      return 0;
    }
    await waitFor(access, given.timeout === undefined ? WAIT_TIMEOUT_MS : given.timeout * 1000, (picture) =>
      progress(picture, on),
    );
    return 0;
  });
}

function withMode(state: ShardState, on: boolean): ShardState {
  const ends = !on && state.freeze?.reason !== undefined && FREEZES_OF_THE_MODE.includes(state.freeze.reason);
  return { ...state, oneNodeWriteMode: on, freeze: ends ? undefined : state.freeze };
}

function plan({ primary, sync }: ShardState, on: boolean): string {
  const name = `"${shortName(primary)}"`;
  if (on)
    return `${name} goes on alone: commits wait for no second peer${sync === null ? "" : `, not for "${shortName(sync)}" either`}. Losing ${name} then loses data, and nobody takes over.`;
  return sync === null
    ? `The next peer that has caught up with ${name} becomes sync; commits wait for it from then on.`
    : `The sync "${shortName(sync)}" stays; the request for one-node-write mode is taken back.`;
}

function progress(picture: Picture, on: boolean): Progress {
  const { view } = picture;
  if (view.kind !== "document") return { kind: "waiting", what: "the document to be readable again" };
  const { state } = view;
  if (on && state.sync === null)
    return { kind: "reached", what: `"${shortName(state.primary)}" writes alone, generation ${state.generation}` };
  if (!on && state.sync !== null)
    return { kind: "reached", what: `"${shortName(state.sync)}" is sync, generation ${state.generation}` };
  return { kind: "waiting", what: doing(picture, state.primary.id) };
}
