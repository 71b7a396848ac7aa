// `npm test`: installs what the tests need, builds, runs every layer, and ends in a line `N passed, N failed`.
//
//   npm test                        all layers, as CI does
//   npm test -- fast drivers        these layers only
//   npm run test:full               more seeds, repetitions and pairs of versions (MANATEE_TEST_FULL=1)

import { spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianPostgres, ensureSystem } from "./lib/debian.mjs";
import { checkNode, ensureBuild, ensurePackages, hydrateEmbedded, root } from "./lib/packages.mjs";
import { CannotGoOn, run, say } from "./lib/say.mjs";
import { stageTree } from "./lib/stage.mjs";
import { canReach, canRunNode, unprivilegedUser } from "./lib/user.mjs";

/** In the order in which they run: what fails fast comes first. */
const layers = ["fast", "simulation", "drivers", "integration", "chaos"];
/** For these, real servers are needed. */
const withServers = new Set(["drivers", "integration", "chaos"]);
/** What makes a network of its own for what follows it; without the right to, the layer is left out, and it is said. */
const ownNetwork = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net"];

await run(async () => {
  const chosen = process.argv.slice(2);
  const unknown = chosen.find((layer) => !layers.includes(layer));
  if (unknown) throw new CannotGoOn(`There is no layer ${unknown}; there are ${layers.join(", ")}.`);
  const wanted = layers.filter((layer) => chosen.length === 0 || chosen.includes(layer));

  checkNode();
  ensurePackages();
  if (wanted.some((layer) => withServers.has(layer))) ensureSystem(["postgresql", "zookeeper", "java"]);
  // They run as root only, and so do their tests.
  if (process.getuid() === 0 && (wanted.includes("drivers") || wanted.includes("integration")))
    ensureSystem(["zfs-fuse", "btrfs-progs", "xfsprogs", "sudo"]);
  if (process.getuid() === 0 && wanted.includes("chaos")) ensureSystem(["iproute2"]);
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
  const failures = [];
  const stalls = [];
  for (const layer of wanted) {
    if (layer === "chaos" && !canOwnNetwork()) {
      say("chaos: left out: only root, where it may make network namespaces, can give peers hosts of their own");
      continue;
    }
    process.stdout.write(`\n── ${layer} ${"─".repeat(Math.max(0, 70 - layer.length))}\n`);
    const first = await runOnce(layer, { report: join(folder, `${layer}.json`), cwd, files: [] });
    const runs = [first];
    const stalled = [...new Set(first.stalls.flatMap(({ files }) => files))];
    // The daemon of a file system in user space may hang, which is no fault of what is tested; twice in the same file is.
    if (stalled.length > 0) {
      say(`${layer}: once more, since their processes hung: ${stalled.join(", ")}`);
      runs.push(await runOnce(layer, { report: join(folder, `${layer}-again.json`), cwd, files: stalled }));
    }
    for (const run of runs) {
      failures.push(...run.failures);
      stalls.push(...run.stalls.map(({ text }) => text));
      for (const key of ["passed", "failed", "skipped"]) total[key] += run[key];
    }
    // A layer that fails without a failed test (a file that doesn't load, an unhandled error, no test at all) is a failure like any other.
    if (runs.at(-1).status !== 0 && runs.every((run) => run.failed === 0)) broken.push(layer);
    const sum = (key) => runs.reduce((all, run) => all + run[key], 0);
    say(
      `${layer}: ${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped in ${(sum("ms") / 1000).toFixed(1)} s`,
    );
  }
  const failed = total.failed + broken.length;
  process.stdout.write("\n");
  if (total.skipped > 0) say(`${total.skipped} skipped`);
  // Said again at the end: of a long log, often only the end is kept.
  for (const { where, why } of failures) process.stdout.write(`✗ ${where}\n${why}\n\n`);
  for (const text of stalls) process.stdout.write(`${text}\n`);
  for (const layer of broken) say(`${layer}: failed outside of its tests; see above`);
  process.stdout.write(`${total.passed} passed, ${failed} failed\n`);
  return failed === 0 && total.passed > 0 ? 0 : 1;
}

/** One layer, or these files of it. */
async function runOnce(layer, { report, cwd, files }) {
  const started = Date.now();
  const status = await vitest(layer, { report, cwd, files });
  const lines = existsSync(stallsOf(report)) ? readFileSync(stallsOf(report), "utf8").trim().split("\n") : [];
  return { status, ...outcome(report), stalls: lines.map((line) => JSON.parse(line)), ms: Date.now() - started };
}

function vitest(layer, { report, cwd, files }) {
  const env = {
    ...process.env,
    PATH: `${process.env.PATH}:${debianPostgres() ?? ""}`,
    MANATEE_TEST_STALLS: stallsOf(report),
  };
  const args = [
    join(cwd, "node_modules/vitest/vitest.mjs"),
    "run",
    "--project",
    layer,
    "--reporter=default",
    "--reporter=json",
    `--reporter=${join(cwd, "scripts/lib/stall-reporter.mjs")}`,
    `--outputFile.json=${report}`,
    ...files,
  ];
  const [program, ...rest] = [...(layer === "chaos" ? ownNetwork : []), process.execPath, ...args];
  if (layer === "chaos") env.MANATEE_TEST_NETWORK = readlinkSync("/proc/self/ns/net");
  const child = spawn(program, rest, { cwd, env, stdio: ["ignore", "inherit", "inherit"] });
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

/** Where lib/stall-reporter.mjs leaves what it ended. */
function stallsOf(report) {
  return `${report}.stalls`;
}

function canOwnNetwork() {
  const [program, ...rest] = [...ownNetwork, "true"];
  return process.getuid() === 0 && spawnSync(program, rest).status === 0;
}

function outcome(report) {
  if (!existsSync(report)) return { passed: 0, failed: 0, skipped: 0, failures: [] };
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
    readFileSync(report, "utf8"),
  );
  const failures = testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => ({
        where: `${name.split("/test/").at(-1)}: ${fullName}`,
        why: failureMessages.join("\n").split("\n").slice(0, 25).join("\n"),
      })),
  );
  return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests, failures };
}
