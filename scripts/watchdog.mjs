// Started by the demonstration beside itself. Its standard input ends when the demonstration does, however that came about: then it removes what is left.

import { removeFolder } from "./lib/folder.mjs";

const folder = process.argv[2];
const keep = process.argv.includes("--keep");
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
process.stdin.on("end", () => removeFolder(folder, { keep }));
process.stdin.on("error", () => removeFolder(folder, { keep }));
process.stdin.resume();
