// manatee-sim: a whole shard in one process, under a clock that only goes on when told, to try what happens. Without a file it is interactive.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Command } from "commander";
import pc from "picocolors";
import { COMMANDS, ScenarioFailure } from "../../simulation/commands.ts";
import { CONDITIONS, ScriptMistake } from "../../simulation/conditions.ts";
import { runCommand, runScript, takeJournal } from "../../simulation/script.ts";
import { showShard } from "../../simulation/show.ts";
import type { World } from "../../simulation/world/types.ts";
import { createWorld } from "../../simulation/world/world.ts";
import { decide } from "../cluster/decide.ts";

const EXAMPLE = `
Examples:
  manatee-sim                                     try things by hand; "help" lists the commands
  manatee-sim test/scenarios/primary-dies.txt     tell a story; exit status 1 where it does not come to its end
  manatee-sim --seed 7 FILE                       the same with other delays
  echo "shard 3
  kill-postgres A
  settle
  show" | manatee-sim -`;

/** Where the conversation takes place that begins without a file. */
export interface Conversation {
  readonly input: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly output: NodeJS.WritableStream;
}

const HERE: Conversation = { input: process.stdin, output: process.stdout };

export async function main(argv: readonly string[], conversation = HERE): Promise<number> {
  const program = new Command("manatee-sim")
    .description("Simulate a shard: real decisions, simulated PostgreSQL, coordination store, network and clock.")
    .argument("[file]", "a scenario; - reads it from standard input")
    .option("--seed <n>", "another run of chance", "1")
    .addHelpText("after", EXAMPLE)
    .exitOverride();
  try {
    program.parse(argv, { from: "user" });
  } catch (error) {
    return isHelp(error) ? 0 : 2;
  }
  const seed = Number(program.opts<{ seed: string }>().seed);
  if (!Number.isSafeInteger(seed) || seed < 0) return complain("--seed takes a whole number", 2);
  const file = program.args[0];
  if (file === undefined && conversation.input.isTTY === true) return prompt(seed, conversation);
  return tellStory(file ?? "-", seed);
}

function isHelp(error: unknown): boolean {
  return typeof error === "object" && error !== null && "exitCode" in error && error.exitCode === 0;
}

function complain(message: string, status: number): number {
  process.stderr.write(`manatee-sim: ${message}\n`);
  return status;
}

function tellStory(file: string, seed: number): number {
  let text: string;
  try {
    text = readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    return complain(`can't read ${file}: ${error instanceof Error ? error.message : String(error)}`, 2);
  }
  const { transcript, failure } = runScript(text, decide, seed);
  process.stdout.write(transcript.split("\n").map(colour).join("\n"));
  return failure === undefined ? 0 : complain(failure, 1);
}

/** Commands, faults and the store's word stand out; on a terminal only. */
function colour(line: string): string {
  if (line.startsWith("> ")) return pc.bold(line);
  if (line.startsWith("#")) return pc.dim(line);
  if (line.startsWith("FAILED")) return pc.red(line);
  if (/^ *[\d.]+ {2}the store/.test(line)) return pc.cyan(line);
  if (/^ {2}(waiting on|operator):/.test(line)) return pc.yellow(line);
  if (/^ {2}do:/.test(line)) return pc.green(line);
  return line;
}

async function prompt(seed: number, { input: from, output }: Conversation): Promise<number> {
  let world = createWorld({ seed, decide });
  output.write(
    `A simulated shard. "help" lists the commands; to begin: ${pc.bold("shard 3")}, ${pc.bold("write x")}, ${pc.bold("kill-postgres A")}, ${pc.bold("run 5s")}, ${pc.bold("show")}.\n`,
  );
  const words = [...Object.keys(COMMANDS), "help", "conditions", "reset", "quit"];
  const completer = (line: string): [string[], string] => [words.filter((word) => word.startsWith(line)), line];
  const input = createInterface({ input: from, output, prompt: pc.bold("sim> "), completer });
  input.prompt();
  for await (const line of input) {
    const word = line.trim();
    if (word === "quit" || word === "exit") break;
    if (word === "reset") world = createWorld({ seed, decide });
    else if (word !== "" && !word.startsWith("#")) output.write(`${answer(world, word)}\n`);
    input.prompt();
  }
  input.close();
  return 0;
}

function answer(world: World, line: string): string {
  if (line === "help") return help();
  if (line === "conditions")
    return Object.values(CONDITIONS)
      .map(({ usage }) => `  ${usage}`)
      .join("\n");
  let said: string;
  try {
    said = runCommand(world, line);
  } catch (error) {
    if (error instanceof ScenarioFailure) said = pc.red(error.message);
    else if (error instanceof ScriptMistake) said = error.message;
    else throw error;
  }
  // a violation is told once; whoever tries things may want to go on and look
  world.violations.length = 0;
  const table = line.startsWith("show") ? "" : `\n${pc.dim(showShard(world))}`;
  return (
    [
      ...takeJournal(world).map((entry) => entry.split("\n").map(colour).join("\n")),
      ...(said === "" ? [] : [said]),
    ].join("\n") + table
  );
}

function help(): string {
  const width = 34;
  const rows = Object.values(COMMANDS).map(
    ({ usage, help }) => `  ${usage.padEnd(width)}  ${help.split(". Conditions:")[0]}`,
  );
  return [
    ...rows,
    `  ${"conditions".padEnd(width)}  what "expect" and "run until" understand`,
    `  ${"reset".padEnd(width)}  a new world`,
    `  ${"quit".padEnd(width)}  leave`,
  ].join("\n");
}
