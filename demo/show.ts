// To the terminal: a picture that is drawn again in its place with events below, or, where output is no terminal, lines.

import pc from "picocolors";
import { cutTo } from "./text.ts";
import { chainText, draw, type Picture } from "./view.ts";

export type Tone = "plain" | "good" | "bad" | "heading";

export interface Show {
  /** Drawn again in its place. */
  readonly live: boolean;
  /** Something happened, or a result. */
  event(text: string, tone?: Tone): void;
  /** What it looks like now. */
  update(picture: Picture): void;
  /** Lines that stay at the foot of the picture. */
  footer(lines: readonly string[]): void;
  /** Leaves the terminal as it was found. */
  end(): void;
}

const started = performance.now();

export function makeShow({ plain }: { plain: boolean }): Show {
  return plain || !process.stdout.isTTY ? lines() : live();
}

function stamp(): string {
  return `${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s`;
}

const tones: Readonly<Record<Tone, (text: string) => string>> = {
  plain: (text) => text,
  good: pc.green,
  bad: pc.red,
  heading: pc.bold,
};

function lines(): Show {
  let chain = "";
  const print = (text: string, tone: Tone = "plain") => process.stdout.write(`${stamp()}  ${tones[tone](text)}\n`);
  return {
    live: false,
    event: print,
    update({ reports, generation }) {
      const now = chainText(reports);
      if (now === chain || now === "") return;
      chain = now;
      print(`generation ${generation ?? "–"}: ${now}`);
    },
    footer: (text) => process.stdout.write(`\n${text.join("\n")}\n`),
    end: () => undefined,
  };
}

function live(): Show {
  const out = process.stdout;
  const events: string[] = [];
  let [picture, foot, height]: [string[], readonly string[], number] = [[], [], 0];
  out.write("\u001b[?25l");
  const paint = () => {
    const columns = Math.max(40, (out.columns || 80) - 1);
    const room = Math.max(3, (out.rows || 24) - picture.length - foot.length - 3);
    const all = [...picture, "", ...events.slice(-room), ...foot]
      .map((line) => cutTo(line, columns))
      .slice(0, Math.max(5, (out.rows || 24) - 1));
    // Up to where the last picture began, then each line anew, and what was below it away.
    out.write(`${height > 0 ? `\u001b[${height}A` : ""}\r${all.map((line) => `${line}\u001b[K\n`).join("")}\u001b[J`);
    height = all.length;
  };
  return {
    live: true,
    event(text, tone = "plain") {
      events.push(`  ${pc.dim(stamp())}  ${tones[tone](text)}`);
      paint();
    },
    update(next) {
      picture = draw(next, Math.max(40, (out.columns || 80) - 1));
      paint();
    },
    footer(text) {
      foot = text;
      paint();
    },
    end: () => void out.write("\u001b[?25h"),
  };
}
