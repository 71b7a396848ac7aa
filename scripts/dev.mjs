// `npm run dev`: the demo's shard from the working tree. The code is compiled whenever it changes, and the sitters restarted with it; PostgreSQL
// and the store stay. Options: --zookeeper, --embedded, --plain as for the demo.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { root, sourcesChangedSince } from "./lib/packages.mjs";
import { FOLDER_VARIABLE } from "./lib/folder.mjs";
import { launch } from "./lib/launch.mjs";
import { run } from "./lib/say.mjs";
import { restageCode } from "./lib/stage.mjs";

const LOOK_EVERY_MS = 300;
const startedAt = Date.now();

await run(async () => {
  const options = process.argv.slice(2);
  const args = ["--dev", ...options.filter((option) => option === "--plain")];
  return launch(
    { zookeeper: options.includes("--zookeeper"), embedded: options.includes("--embedded"), keep: false, args },
    compileOnChange,
  );
});

/** By looks of its own: the compiler's `--watch` misses a change that comes while it reads. The compiler is a process of the folder, and ends with the others. */
async function compileOnChange(child, { folder, runtime, user }) {
  const tell = (message) => child.connected && child.send(message);
  let compiledAt = startedAt;
  for (; child.connected; await sleep(LOOK_EVERY_MS)) {
    if (!sourcesChangedSince(compiledAt)) continue;
    compiledAt = Date.now();
    const { status, output } = await compile(folder);
    for (const line of output.split("\n"))
      if (/error TS/.test(line)) tell({ kind: "compile-error", line: line.trim() });
    if (status !== 0) continue;
    if (runtime !== root) restageCode(runtime, user);
    tell({ kind: "code-changed" });
  }
}

function compile(folder) {
  const compiler = spawn(
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--pretty", "false"],
    { cwd: root, env: { ...process.env, [FOLDER_VARIABLE]: folder }, stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  compiler.stdout.on("data", (chunk) => (output += chunk.toString("utf8")));
  return new Promise((resolve) => compiler.on("close", (status) => resolve({ status, output })));
}
