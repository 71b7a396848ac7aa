// Scenario scripts: a story in commands. The transcript (every command, every decision that changed) is the golden output.

import { COMMANDS, ScenarioFailure } from "./commands.ts";
import { ScriptMistake } from "./conditions.ts";
import type { Decide, World } from "./world/types.ts";
import { createWorld } from "./world/world.ts";

export interface Outcome {
  readonly transcript: string;
  /** Why it did not come to its end. */
  readonly failure: string | undefined;
  readonly world: World;
}

/** `seed N` as the first command chooses another run of chance than seed 1. */
export function runScript(text: string, decide: Decide, seed = 1): Outcome {
  const lines = text.split("\n").map((line) => line.trim());
  const seedLine = lines.find((line) => line.startsWith("seed "));
  const world = createWorld({ seed: seedLine ? Number(seedLine.slice(5)) : seed, decide });
  const transcript: string[] = [];
  let failure: string | undefined;
  for (const [i, line] of lines.entries()) {
    if (line === "" || line.startsWith("#") || line === seedLine) {
      if (line !== "" || transcript.length > 0) transcript.push(line);
      continue;
    }
    transcript.push(`> ${line}`);
    failure = execute(world, line, i + 1);
    transcript.push(...takeJournal(world));
    const said = takeSaid(world);
    if (said !== "") transcript.push(said);
    if (failure !== undefined) {
      transcript.push(`FAILED: ${failure}`);
      break;
    }
  }
  return { transcript: `${transcript.join("\n").trimEnd()}\n`, failure, world };
}

const said = new WeakMap<World, string>();

function takeSaid(world: World): string {
  const text = said.get(world) ?? "";
  said.delete(world);
  return text;
}

function execute(world: World, line: string, number: number): string | undefined {
  try {
    const text = runCommand(world, line);
    if (text !== "") said.set(world, text);
    return undefined;
  } catch (error) {
    if (error instanceof ScenarioFailure || error instanceof ScriptMistake) return `line ${number}: ${error.message}`;
    throw error;
  }
}

/** One command. What it has to say; rejects with {@link ScriptMistake} or {@link ScenarioFailure}. */
export function runCommand(world: World, line: string): string {
  const [name = "", ...words] = line.trim().split(/\s+/);
  const command = COMMANDS[name];
  if (!command) throw new ScriptMistake(`there is no command ${name}; try help`);
  return command.run(world, words) ?? "";
}

/** What has happened since the last call. */
export function takeJournal(world: World): readonly string[] {
  return world.journal.splice(0);
}
