// `npm run dev`: the demo's shard from the working tree. The code is compiled whenever it changes, and the sitters restarted with it; PostgreSQL
// and the store stay. Options: --zookeeper, --embedded, --plain as for the demo.

import { spawn } from "node:child_process";
import { join } from "node:path";
import { root, sourcesChangedSince } from "./lib/packages.mjs";
import { FOLDER_VARIABLE } from "./lib/folder.mjs";
import { launch } from "./lib/launch.mjs";
import { run } from "./lib/say.mjs";
import { restageCode } from "./lib/stage.mjs";

const startedAt = Date.now();

await run(async () => {
  const options = process.argv.slice(2);
  const args = ["--dev", ...options.filter((option) => option === "--plain")];
  return launch(
    { zookeeper: options.includes("--zookeeper"), embedded: options.includes("--embedded"), keep: false, args },
    compileOnChange,
  );
});

/** The compiler is a process of the folder like the others, and ends with them. */
function compileOnChange(child, { folder, runtime, user }) {
  const compiler = spawn(
    process.execPath,
    [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json", "--watch", "--preserveWatchOutput"],
    { cwd: root, env: { ...process.env, [FOLDER_VARIABLE]: folder }, stdio: ["ignore", "pipe", "inherit"] },
  );
  const tell = (message) => child.connected && child.send(message);
  let rounds = 0;
  compiler.stdout.on("data", (chunk) => {
    for (const line of chunk.toString("utf8").split("\n")) {
      if (/error TS/.test(line)) tell({ kind: "compile-error", line: line.trim() });
      if (!/Found 0 errors/.test(line)) continue;
      // The first round compiles what runs already, unless somebody was fast.
      if (++rounds === 1 && !sourcesChangedSince(startedAt)) continue;
      if (runtime !== root) restageCode(runtime, user);
      tell({ kind: "code-changed" });
    }
  });
}
