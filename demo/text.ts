// Small things about text on a terminal.

/** The escape sequences of colours. */
const colours = new RegExp(`(${String.fromCharCode(27)}\\[[0-9;]*m)`, "g");

/** As it is seen: without the escape sequences of colours. */
export function plainLength(text: string): number {
  return text.replace(colours, "").length;
}

export function padTo(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - plainLength(text)));
}

/** Cut at the width, escape sequences not counted; ends in a reset where it was cut. */
export function cutTo(text: string, width: number): string {
  if (plainLength(text) <= width) return text;
  let [seen, out] = [0, ""];
  for (const part of text.split(colours)) {
    if (part.startsWith("\u001b[")) out += part;
    else {
      out += part.slice(0, Math.max(0, width - 1 - seen));
      seen += part.length;
    }
  }
  return `${out}…\u001b[0m`;
}

const bars = "▁▂▃▄▅▆▇█";

/** One character a value, from nothing to the largest of them. */
export function sparkline(values: readonly number[]): string {
  const top = Math.max(1, ...values);
  return values
    .map((value) =>
      value === 0 ? " " : (bars[Math.min(bars.length - 1, Math.floor((value / top) * bars.length))] ?? " "),
    )
    .join("");
}

/** `0 B`, `12 kB`, `3.4 MB` */
export function bytes(count: bigint): string {
  if (count < 1024n) return `${count} B`;
  const kilo = Number(count) / 1024;
  return kilo < 1024 ? `${kilo.toFixed(0)} kB` : `${(kilo / 1024).toFixed(1)} MB`;
}

export function count(value: number): string {
  return value.toLocaleString("en");
}
