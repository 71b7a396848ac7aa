// Started by the demonstration beside itself. Its standard input ends when the demonstration does, however that came about: then it removes what is left.

import { removeFolder } from "./lib/folder.mjs";

const folder = process.argv[2];
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => undefined);
process.stdin.on("end", () => removeFolder(folder));
process.stdin.on("error", () => removeFolder(folder));
process.stdin.resume();
