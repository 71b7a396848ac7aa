// `npm run check`: what is fast enough to run before every commit, side by side. Prints only what fails, and how long each took.

import { spawn } from "node:child_process";
import { checkNode, ensurePackages, root } from "./lib/packages.mjs";
import { run, say } from "./lib/say.mjs";

const checks = {
  types: ["node_modules/.bin/tsc", "-p", "tsconfig.json", "--noEmit"],
  "pure types": ["node_modules/.bin/tsc", "-p", "tsconfig.pure.json", "--noEmit"],
  lint: ["node_modules/.bin/oxlint", "--type-aware", "--quiet"],
  format: ["node_modules/.bin/biome", "format", "."],
  tests: ["node_modules/.bin/vitest", "run", "--project", "fast", "--reporter=dot"],
};

await run(async () => {
  checkNode();
  ensurePackages();
  const results = await Promise.all(Object.entries(checks).map(([name, command]) => check(name, command)));
  const failed = results.filter((ok) => !ok).length;
  say(failed === 0 ? "all well" : `${failed} of ${results.length} failed`);
  return failed === 0 ? 0 : 1;
});

async function check(name, [command, ...args]) {
  const started = Date.now();
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const output = [];
  child.stdout.on("data", (chunk) => output.push(chunk));
  child.stderr.on("data", (chunk) => output.push(chunk));
  const status = await new Promise((resolve) => {
    child.on("error", () => resolve(127));
    child.on("close", resolve);
  });
  const took = `${((Date.now() - started) / 1000).toFixed(1)} s`;
  say(`${status === 0 ? "ok    " : "FAILED"} ${name} (${took})`);
  if (status !== 0) process.stdout.write(`${Buffer.concat(output).toString("utf8").trimEnd()}\n`);
  return status === 0;
}
