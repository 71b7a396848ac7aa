// Loaded into a sitter by `node --import`: its wall clock is off by as many milliseconds as the file CLOCK_OFFSET_FILE says now. The monotonic clock goes on as it is.

import { readFileSync } from "node:fs";

const Real = Date;

function now() {
  return Real.now() + Number(readFileSync(process.env["CLOCK_OFFSET_FILE"], "utf8"));
}

globalThis.Date = class extends Real {
  constructor(...args) {
    super(...(args.length === 0 ? [now()] : args));
  }
  static now = now;
};
