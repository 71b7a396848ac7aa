import picocolors from "picocolors";

const colours = picocolors.createColors(true);

export interface Outputs {
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
}

/** NO_COLOR is https://no-color.org: any value but an empty one. */
export function coloursOf(
  { outIsTerminal, errIsTerminal }: Outputs,
  env: Readonly<Record<string, string | undefined>>,
): { readonly colour: boolean; readonly noteColour: boolean } {
  const wanted = (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb";
  return { colour: wanted && outIsTerminal, noteColour: wanted && errIsTerminal };
}

/** Coloured on a terminal only: programs read what is piped. */
export function paint(colour: boolean, name: "red" | "yellow" | "green" | "dim" | "bold", text: string): string {
  return colour ? colours[name](text) : text;
}
