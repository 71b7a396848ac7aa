// Options that every command which changes something has.

import { type Command, Option } from "commander";
import type { ChangeOptions } from "./change.ts";
import { addShardOptions, type TargetOptions } from "./target.ts";

export interface ChangeCommandOptions extends ChangeOptions, TargetOptions {
  /** The original's long name of `-y`. */
  readonly ignorePrompts?: boolean;
}

export function addChangeOptions(command: Command): Command {
  return addShardOptions(command)
    .option("-y, --yes", "don't ask")
    .addOption(new Option("--ignorePrompts", "don't ask").hideHelp())
    .option("--dry-run", "show what would happen, and change nothing");
}

export function changeOptions({ yes, ignorePrompts, dryRun }: ChangeCommandOptions): ChangeOptions {
  return { yes: yes === true || ignorePrompts === true, dryRun: dryRun === true };
}
