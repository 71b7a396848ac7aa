// `npm test`: installs what the tests need, builds, runs every layer, and ends in a line `N passed, N failed`.
//
//   npm test                        all layers, as CI does
//   npm test -- fast drivers        these layers only
//   npm run test:full               more seeds, repetitions and pairs of versions (MANATEE_TEST_FULL=1)

import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianPostgres, ensureSystem } from "./lib/debian.mjs";
import { checkNode, ensureBuild, ensurePackages, hydrateEmbedded, root } from "./lib/packages.mjs";
import { CannotGoOn, run, say } from "./lib/say.mjs";
import { stageTree } from "./lib/stage.mjs";
import { canReach, canRunNode, unprivilegedUser } from "./lib/user.mjs";

/** In the order in which they run: what fails fast comes first. */
const layers = ["fast", "simulation", "drivers", "integration"];
/** For these, real servers are needed. */
const withServers = new Set(["drivers", "integration"]);

await run(async () => {
  const chosen = process.argv.slice(2);
  const unknown = chosen.find((layer) => !layers.includes(layer));
  if (unknown) throw new CannotGoOn(`There is no layer ${unknown}; there are ${layers.join(", ")}.`);
  const wanted = layers.filter((layer) => chosen.length === 0 || chosen.includes(layer));

  checkNode();
  ensurePackages();
  if (wanted.some((layer) => withServers.has(layer))) ensureSystem(["postgresql", "zookeeper", "java"]);
  ensureBuild();
  hydrateEmbedded();

  const folder = mkdtempSync(join(tmpdir(), "manatee-test-"));
  try {
    return await runLayers(wanted, placeToRun(folder), folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** The clone, or a copy of it where the user that PostgreSQL runs as can't enter the clone. */
function placeToRun(folder) {
  const user = unprivilegedUser();
  if (!canRunNode(user))
    throw new CannotGoOn(
      `The user ${user.name}, as whom PostgreSQL runs, can't run ${process.execPath}: install Node where everybody can reach it.`,
    );
  chmodSync(folder, 0o755);
  if (canReach(user, join(root, "package.json")) && canReach(user, join(root, "node_modules/.package-lock.json")))
    return root;
  say(`the user ${user.name} can't enter ${root}: the tests run in a copy below ${folder}`);
  const tree = join(folder, "tree");
  stageTree(tree);
  return tree;
}

async function runLayers(wanted, cwd, folder) {
  const total = { passed: 0, failed: 0, skipped: 0 };
  const broken = [];
  for (const layer of wanted) {
    const report = join(folder, `${layer}.json`);
    const started = Date.now();
    process.stdout.write(`\n── ${layer} ${"─".repeat(Math.max(0, 70 - layer.length))}\n`);
    const status = await vitest(layer, report, cwd);
    const { passed, failed, skipped } = count(report);
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    // A layer that fails without a failed test (a file that doesn't load, an unhandled error, no test at all) is a failure like any other.
    if (status !== 0 && failed === 0) broken.push(layer);
    say(
      `${layer}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${((Date.now() - started) / 1000).toFixed(1)} s`,
    );
  }
  const failed = total.failed + broken.length;
  process.stdout.write("\n");
  if (total.skipped > 0) say(`${total.skipped} skipped`);
  for (const layer of broken) say(`${layer}: failed outside of its tests; see above`);
  process.stdout.write(`${total.passed} passed, ${failed} failed\n`);
  return failed === 0 && total.passed > 0 ? 0 : 1;
}

function vitest(layer, report, cwd) {
  const env = { ...process.env, PATH: `${process.env.PATH}:${debianPostgres() ?? ""}` };
  const args = [
    join(cwd, "node_modules/vitest/vitest.mjs"),
    "run",
    "--project",
    layer,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${report}`,
  ];
  const child = spawn(process.execPath, args, { cwd, env, stdio: ["ignore", "inherit", "inherit"] });
  const pass = (signal) => child.kill(signal);
  process.on("SIGINT", pass);
  process.on("SIGTERM", pass);
  return new Promise((resolve) => {
    child.on("exit", (status) => {
      process.off("SIGINT", pass);
      process.off("SIGTERM", pass);
      resolve(status ?? 1);
    });
  });
}

function count(report) {
  if (!existsSync(report)) return { passed: 0, failed: 0, skipped: 0 };
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(readFileSync(report, "utf8"));
  return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
}
