// What the scripts tell a person, and how they end when something is missing.

const colour = process.stdout.isTTY && !process.env.NO_COLOR;

/** A line about what goes on. */
export function say(text) {
  process.stdout.write(`${colour ? "\u001b[2m·\u001b[22m" : "·"} ${text}\n`);
}

/** Something that the person at the keyboard has to do; ends the script. `commands`: what to type. */
export class CannotGoOn extends Error {
  constructor(message, commands = []) {
    super(message);
    this.commands = commands;
  }
}

/** Runs a script's main function; its result is the exit status. */
export async function run(main) {
  try {
    process.exitCode = (await main()) ?? 0;
  } catch (error) {
    if (!(error instanceof CannotGoOn)) throw error;
    process.stderr.write(`\n${error.message}\n${error.commands.map((command) => `    ${command}\n`).join("")}`);
    process.exitCode = 1;
  }
}
