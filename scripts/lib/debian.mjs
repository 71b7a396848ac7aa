// What the system has to bring: PostgreSQL with its tools, Java and ZooKeeper. As root on Debian they are installed; otherwise it is said how.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { CannotGoOn, say } from "./say.mjs";

/** What the scripts may need of the system: how to tell that it is there, and Debian's package. */
const needs = {
  postgresql: { there: () => debianPostgres() || onPath("postgres"), package: "postgresql" },
  zookeeper: { there: () => existsSync("/usr/share/java/zookeeper.jar"), package: "zookeeper" },
  "zfs-fuse": { there: () => existsSync("/usr/sbin/zfs-fuse"), package: "zfs-fuse" },
  iproute2: { there: () => onPath("ip") && onPath("bridge"), package: "iproute2" },
  "btrfs-progs": {
    there: () => ["/usr/sbin", "/sbin"].some((folder) => existsSync(`${folder}/mkfs.btrfs`)),
    package: "btrfs-progs",
  },
  xfsprogs: {
    there: () => ["/usr/sbin", "/sbin"].some((folder) => existsSync(`${folder}/mkfs.xfs`)),
    package: "xfsprogs",
  },
  sudo: { there: () => onPath("sudo"), package: "sudo" },
  java: { there: () => onPath("java"), package: "default-jre-headless" },
};

/** Makes sure that the named ones are there. Throws {@link CannotGoOn} with what to type where it may not or can't install them. */
export function ensureSystem(names) {
  const missing = names.filter((name) => !needs[name].there());
  if (missing.length === 0) return;
  const packages = missing.map((name) => needs[name].package);
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
  const byHand = [
    ...(missing.includes("postgresql")
      ? [`sudo mkdir -p ${confFolder} && echo 'create_main_cluster = false' | sudo tee -a ${confFile}`]
      : []),
    `sudo apt-get update && sudo ${install.join(" ")}`,
  ];
  if (process.getuid() !== 0)
    throw new CannotGoOn(
      `Missing on this machine: ${missing.join(", ")}. As root it would be installed; on Debian:`,
      byHand,
    );
  if (!onPath("apt-get"))
    throw new CannotGoOn(
      `Missing on this machine: ${missing.join(", ")}; there is no apt-get here to install it with.`,
    );
  if (missing.includes("postgresql")) keepDebianFromMakingACluster();
  say(`installing Debian's packages ${packages.join(", ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  // The lists may be fresh already, and an update takes a while: first without.
  if (apt(install, env) !== 0 && (apt(["apt-get", "update", "-q"], env) !== 0 || apt(install, env) !== 0))
    throw new CannotGoOn("apt-get could not install them. Last lines above say why; by hand:", byHand);
  const still = missing.filter((name) => !needs[name].there());
  if (still.length > 0) throw new CannotGoOn(`Installed, and still not found: ${still.join(", ")}.`);
}

const confFolder = "/etc/postgresql-common";
const confFile = `${confFolder}/createcluster.conf`;

/** Debian's packages make a cluster of their own, and start it, unless told not to before they are installed. */
export function keepDebianFromMakingACluster(file = confFile) {
  const present = existsSync(file) ? readFileSync(file, "utf8") : "";
  if (/^\s*create_main_cluster\s*=/m.test(present)) return;
  mkdirSync(dirname(file), { recursive: true });
  const lineEnd = present === "" || present.endsWith("\n") ? "" : "\n";
  writeFileSync(file, `${present}${lineEnd}create_main_cluster = false\n`);
}

function apt([command, ...args], env) {
  const { status, stdout, stderr } = spawnSync(command, args, { env, encoding: "utf8", maxBuffer: 1 << 26 });
  if (status !== 0) process.stderr.write(`${`${stdout ?? ""}${stderr ?? ""}`.split("\n").slice(-12).join("\n")}\n`);
  return status;
}

/** Debian's folder with the newest PostgreSQL's programs; undefined: none. */
export function debianPostgres(base = "/usr/lib/postgresql") {
  if (!existsSync(base)) return undefined;
  const versions = readdirSync(base).filter((version) => existsSync(`${base}/${version}/bin/postgres`));
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0];
  return newest && `${base}/${newest}/bin`;
}

function onPath(name) {
  return (process.env.PATH ?? "").split(":").some((folder) => folder !== "" && existsSync(`${folder}/${name}`));
}
