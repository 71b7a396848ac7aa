import { type Command, Option } from "commander";
import { formatDuration, parseDuration } from "../../base/duration.ts";
import { formatLsn } from "../../base/lsn.ts";
import { isoTime } from "../../base/text.ts";
import type { Ms } from "../../base/units.ts";
import { roleOf } from "../../cluster/state.ts";
import type { Clone, ClonePlace, Clones, CloneSource } from "../../postgres/clones.ts";
import { decodeFacts } from "../../snapshots/facts.ts";
import { confirm, readDocument } from "../change.ts";
import { addChangeOptions, type ChangeCommandOptions, changeOptions } from "../change-options.ts";
import { describeSnapshot, findSnapshot } from "../clone-source.ts";
import { withShard } from "../connect.ts";
import type { AdminContext } from "../context.ts";
import { examples, printTable } from "../output.ts";
import { type PeerTarget, peerTarget } from "../peer-target.ts";
import type { ExitStatus, Run } from "../program.ts";
import { chooseColumns, collect, type Column, isJson, tableJson } from "../table.ts";
import { WrongUse } from "../wrong-use.ts";

interface Options extends ChangeCommandOptions {
  readonly port?: number;
  readonly ttl?: Ms;
  readonly list?: boolean;
  readonly drop?: string;
  readonly columns?: readonly string[];
  readonly omitHeader?: boolean;
}

interface CloneRow extends Clone {
  /** When the table is printed. */
  readonly wallMs: Ms;
}

export const CLONE_COLUMNS: readonly Column<CloneRow>[] = [
  { name: "name", label: "CLONE", width: 6, value: ({ name }) => name },
  { name: "port", label: "PORT", width: 6, value: ({ port }) => String(port) },
  { name: "state", label: "STATE", width: 8, value: ({ state }) => state },
  { name: "snapshot", label: "SNAPSHOT", width: 22, value: ({ snapshot }) => snapshot },
  { name: "asof", label: "AS OF", width: 24, value: ({ takenWallMs }) => isoTime(takenWallMs) },
  { name: "until", label: "UNTIL", width: 24, value: ({ untilWallMs }) => isoTime(untilWallMs) },
  {
    name: "left",
    label: "LEFT",
    width: 6,
    align: "right",
    value: ({ untilWallMs, wallMs }) => formatDuration(untilWallMs - wallMs),
  },
  { name: "socket", label: "SOCKET", width: 20, value: ({ socketDir }) => socketDir },
];
const CLONE_DEFAULT = ["name", "port", "state", "snapshot", "asof", "until", "left"];

const TTL_MS: Ms = 8 * 3_600_000;
const TTL_MAX_MS: Ms = 30 * 86_400_000;
/** A recovery takes as long as there is WAL since the last checkpoint. */
const LIMIT_MS: Ms = 600_000;
/** As the snapshotter's default, below which it removes more than usual. */
const SCARCE_PERCENT = 15;

export function define(command: Command, run: Run): void {
  addChangeOptions(command)
    .argument("[SNAPSHOT]", "its name (manatee-adm snapshots), or now: one that is taken for it")
    .option("--port <PORT>", "on which it listens; a free one otherwise", parsePort)
    .addOption(
      new Option("--ttl <DURATION>", "when it goes: 45s, 30m, 8h, 3d (8h if not given; 30d at most)").argParser(
        parseTtl,
      ),
    )
    .option("--list", "list the clones of this host's peer")
    .option("--drop <CLONE>", "remove one, with all that was written to it")
    .option("-H, --omitHeader", "no header")
    .option(
      "-o, --columns <COLUMN,...>",
      `of --list these columns (${CLONE_COLUMNS.map(({ name }) => name).join(", ")}), or json`,
      collect,
    )
    .addHelpText(
      "after",
      `${examples(
        "clone now -f /etc/manatee/sitter.json --ttl 2h",
        "clone 1760000000000 -f /etc/manatee/sitter.json --port 15432 -o json",
        "clone --list -f /etc/manatee/sitter.json",
        "clone --drop 15432 -f /etc/manatee/sitter.json",
      )}\n\nRun it on the host of an async, as the user that owns the data. The clone shows the database as of the snapshot; it takes writes, which the shard never sees. It listens\non this machine only, and knows the roles and passwords that the shard knew then. The snapshotter of this peer removes it when its time is over.`,
    )
    .action(run(clone));
}

async function clone(context: AdminContext, options: Options, [snapshot]: readonly string[]): Promise<ExitStatus> {
  const asked = [snapshot !== undefined, options.list === true, options.drop !== undefined].filter(Boolean).length;
  if (asked === 0) throw new WrongUse("what shall be done? There is: clone SNAPSHOT, clone now, --list, --drop CLONE");
  if (asked > 1) throw new WrongUse("a snapshot, --list and --drop exclude each other");
  if (snapshot === undefined && (options.port !== undefined || options.ttl !== undefined))
    throw new WrongUse("options --port and --ttl belong to a snapshot, or now");
  const json = isJson(options.columns);
  if (options.columns !== undefined && !json && options.list !== true)
    throw new WrongUse("option --columns takes json only, unless with --list");
  const target = await peerTarget(context, options);
  const clones = await context.clones(target.config);
  if (options.drop !== undefined) return drop(context, clones, { ...options, name: options.drop });
  return snapshot === undefined
    ? list(context, clones, options)
    : make(context, clones, { ...options, target, wanted: snapshot, json });
}

async function list(context: AdminContext, clones: Clones, options: Options): Promise<ExitStatus> {
  const json = isJson(options.columns);
  const names = json ? CLONE_COLUMNS.map(({ name }) => name) : (options.columns ?? CLONE_DEFAULT);
  const columns = chooseColumns(names, CLONE_COLUMNS);
  const wallMs = context.world.clock.wall();
  const rows = (await clones.list()).map((one) => ({ ...one, wallMs }));
  if (json) context.terminal.print(tableJson(columns, rows));
  else printTable(context.terminal, columns, rows, options);
  return 0;
}

async function drop(
  context: AdminContext,
  clones: Clones,
  options: Options & { readonly name: string },
): Promise<ExitStatus> {
  const { terminal } = context;
  const { name } = options;
  const doomed = (await clones.list()).find((one) => one.name === name);
  if (doomed) {
    terminal.note(
      `Ends the server on port ${doomed.port}, and removes ${doomed.dataset}. What was written to it is nowhere else.`,
    );
    await confirm({ context }, changeOptions(options), "refuse");
    if (options.dryRun === true) {
      terminal.print("Dry run: nothing is removed.");
      return 0;
    }
  }
  await clones.drop(name);
  terminal.print(isJson(options.columns) ? JSON.stringify({ dropped: name }) : `${name} is gone.`);
  return 0;
}

interface Wanted extends Options {
  readonly target: PeerTarget;
  readonly wanted: string;
  readonly json: boolean;
}

async function make(context: AdminContext, clones: Clones, options: Wanted): Promise<ExitStatus> {
  const { terminal, world } = context;
  const { target, wanted, ttl = TTL_MS } = options;
  const { self } = target.config;
  const role = await withShard(context, target, async (access) => roleOf((await readDocument(access)).state, self.id));
  const place = await clones.place();
  const chosen = wanted === "now" ? undefined : findSnapshot(place, wanted);
  const port = await clones.choosePort(options.port);
  const source = chosen === undefined ? "a snapshot that is taken now" : `snapshot ${describeSnapshot(chosen)}`;
  terminal.note(
    `Starts PostgreSQL on a clone of ${source}, on port ${port} of this machine, for ${formatDuration(ttl)}.`,
  );
  const doubts = doubtsOf(role, place);
  for (const doubt of doubts) terminal.note(`warning: ${doubt}`);
  if (doubts.length > 0) await confirm({ context }, changeOptions(options), "refuse");
  if (options.dryRun === true) {
    terminal.print("Dry run: nothing is made.");
    return 0;
  }
  const began = world.clock.now();
  const seconds = () => ((world.clock.now() - began) / 1000).toFixed(1);
  const onStep = (text: string) => terminal.note(`${seconds().padStart(5)} s  ${text}`);
  const snapshot = chosen ?? (await take(context, clones, { target, onStep }));
  const limitMs = options.timeout === undefined ? LIMIT_MS : options.timeout * 1000;
  const made = await clones.make({ snapshot, port, ttlMs: ttl, limitMs, onStep });
  tell(context, made, {
    snapshot,
    superuser: target.config.postgres.superuser,
    seconds: seconds(),
    json: options.json,
  });
  return 0;
}

/** By this peer's backup server, so that it bears what a snapshot of the shard's bears. */
async function take(
  context: AdminContext,
  clones: Clones,
  { target, onStep }: { target: PeerTarget; onStep: (text: string) => void },
): Promise<CloneSource> {
  onStep("takes a snapshot");
  try {
    const { name } = await (await context.backups(target.config)).takeNow(target.config.self);
    return findSnapshot(await clones.place(), name);
  } catch (error) {
    context.terminal.note("None could be taken. One that is there already serves as well: see manatee-adm snapshots.");
    throw error;
  }
}

function doubtsOf(role: string | undefined, { shared, freePercent }: ClonePlace): readonly string[] {
  return [
    ...(role === "primary" || role === "sync"
      ? [
          `this host's peer is the ${role}: a clone takes memory, processor and disk from what commits wait for. An async is better.`,
        ]
      : []),
    ...(shared ? [] : ["this storage shares no blocks: the clone is a copy of all data, in time and in space."]),
    ...(freePercent < SCARCE_PERCENT
      ? [
          `${freePercent} % of the storage are free: what is written to the clone, and what its snapshot keeps, take space from the shard.`,
        ]
      : []),
  ];
}

function tell(
  { terminal }: AdminContext,
  made: Clone,
  { snapshot, superuser, seconds, json }: { snapshot: CloneSource; superuser: string; seconds: string; json: boolean },
): void {
  const { name, port, dataset, socketDir } = made;
  const until = isoTime(made.untilWallMs);
  if (json) {
    const facts = decodeFacts(snapshot.properties);
    const [lsn, timeline] = [facts === undefined ? null : formatLsn(facts.lsn), facts?.timeline ?? null];
    const about = { asOf: isoTime(made.takenWallMs), lsn, timeline, until };
    terminal.print(
      JSON.stringify({ name, port, snapshot: snapshot.name, ...about, dataset, socket: socketDir }, undefined, 2),
    );
    return;
  }
  terminal.print(
    `Clone ${name} takes writes after ${seconds} s. It shows the database as of ${isoTime(made.takenWallMs)} (snapshot ${snapshot.name}).`,
  );
  terminal.print(`  psql -h 127.0.0.1 -p ${port}    roles and passwords as in the shard then`);
  terminal.print(`  psql -h ${socketDir} -p ${port} -U ${superuser}    as the user that owns the data`);
  terminal.print(`It goes at ${until}, with all that was written to it; before: manatee-adm clone --drop ${name}.`);
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1024 && port <= 65_535) return port;
  throw new WrongUse(`option --port takes a number from 1024 to 65535, not "${text}"`);
}

function parseTtl(text: string): Ms {
  const ttl = parseDuration(text);
  if (ttl !== undefined && ttl > 0 && ttl <= TTL_MAX_MS) return ttl;
  throw new WrongUse(
    `option --ttl takes a time such as 45s, 30m, 8h or 3d, ${formatDuration(TTL_MAX_MS)} at most, not "${text}"`,
  );
}
