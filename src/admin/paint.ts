import picocolors from "picocolors";

const colours = picocolors.createColors(true);

/** Coloured on a terminal only: programs read what is piped. */
export function paint(colour: boolean, name: "red" | "yellow" | "green" | "dim" | "bold", text: string): string {
  return colour ? colours[name](text) : text;
}
