// `--check`: what the configuration means, and whether this machine fits it. Looks only; starts and changes nothing.

import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { dirname } from "node:path";
import { explainError, ManateeError } from "../base/errors.ts";
import { formatTags } from "../cluster/tags.ts";
import type { SitterConfig } from "../config/types.ts";
import { peerTls } from "./peer-tls.ts";
import { realTimers } from "../world/real/clock.ts";
import { storageOf } from "./storage-of.ts";
import { findBinaries } from "../postgres/real/binaries.ts";

/** Prints its findings; true if nothing stands in the way. */
export async function checkMachine(config: SitterConfig): Promise<boolean> {
  const { self, store, postgres, stateDir, policy, tags } = config;
  say("peer", self.id);
  say("zone", self.zoneId);
  say("shard", `${config.shard} (${config.shardPath})`);
  say(
    "store",
    store.kind === "zookeeper"
      ? `ZooKeeper ${store.connectString}`
      : `embedded store in ${store.directory} (not for production)`,
  );
  say("session", `${store.sessionTimeoutMs} ms`);
  say("status", `http://${config.statusHost}:${config.statusPort}/`);
  say("data", `${postgres.dataDir}${existsSync(postgres.dataDir) ? "" : " (does not exist yet)"}`);
  warnOfAddress(self.ip);
  say("policy", JSON.stringify(policy));
  say("tags", formatTags(tags) || "none");
  const results = [
    await checkBinaries(config),
    checkFolder("dataDir", postgres.dataDir),
    checkFolder("stateDir", stateDir),
    checkUser(postgres.dataDir),
    checkStreams(config),
    await checkStorage(config),
  ];
  return results.every(Boolean);
}

async function checkStorage({ storage: section, postgres }: SitterConfig): Promise<boolean> {
  if (section === undefined) {
    say("storage", "a plain folder: forks are kept as copies");
    return true;
  }
  const storage = storageOf(section, realTimers);
  const { dataset, kind } = section;
  try {
    const found = await storage.look(dataset);
    const { atomic, shared, resume } = await storage.capabilities();
    const lacks = [
      ...(atomic ? [] : ["snapshots of a running server"]),
      ...(shared ? [] : ["copies that share blocks"]),
      ...(resume ? [] : ["resumable streams"]),
    ];
    const without = lacks.length === 0 ? "" : `, without ${lacks.join(", ")}`;
    say("storage", `${storage.description}, dataset ${dataset}${without}`);
    if (found === undefined && kind !== "zfs") say("dataset", `${dataset} is made when the sitter starts`);
    else if (found === undefined)
      return complainFalse(
        `there is no dataset ${dataset}`,
        `create it: zfs create -o mountpoint=${postgres.dataDir} ${dataset}`,
      );
    if (found && found.folder !== postgres.dataDir)
      return complainFalse(
        `${dataset} is mounted at ${found.folder}, and the data directory is ${postgres.dataDir}`,
        kind !== "zfs"
          ? `make them the same: set postgres.dataDir to ${found.folder}`
          : `make them the same: zfs set mountpoint=${postgres.dataDir} ${dataset}`,
      );
    return true;
  } catch (error) {
    return complainFalse(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
  }
}

/** A warning only: behind a translation of addresses, or with one that moves here later, it may be right all the same. */
function warnOfAddress(ip: string): void {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses?.map(({ address }) => address) ?? []);
  if (ip.startsWith("127.") || own.includes(ip)) return;
  process.stderr.write(`warning: ip: ${ip} is not an address of this machine, which has ${own.join(", ")}\n`);
}

function complainFalse(message: string, hint: string): false {
  complain(message, hint);
  return false;
}

async function checkBinaries({ postgres }: SitterConfig): Promise<boolean> {
  const major = postgres.version ?? versionOf(postgres.dataDir);
  try {
    const found = await findBinaries({
      binDir: postgres.binDir,
      major: major === undefined ? undefined : Number(major),
    });
    say("PostgreSQL", `${found.version} in ${found.binDir} (${found.source})`);
    if (found.rewind === undefined)
      process.stderr.write("warning: this PostgreSQL has no pg_rewind: a peer that has forked is copied in full\n");
    return true;
  } catch (error) {
    complain(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
    return false;
  }
}

function checkStreams(config: SitterConfig): boolean {
  const { beatMs, minMs, maxMs } = config.peers.silence;
  const how = config.peers.tls ? "TLS" : "plain TCP, sealed";
  say("streams", `${how}; a beat each ${beatMs} ms, silence counts after ${minMs} to ${maxMs} ms`);
  try {
    peerTls(config);
    return true;
  } catch (error) {
    complain(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
    return false;
  }
}

function versionOf(dataDir: string): string | undefined {
  const file = `${dataDir}/PG_VERSION`;
  return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
}

/** The folder, or the nearest one above it that is there, can be written to. */
function checkFolder(key: string, path: string): boolean {
  let folder = path;
  while (!existsSync(folder) && folder !== "/") folder = dirname(folder);
  try {
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    return true;
  } catch {
    complain(
      `${key}: ${folder} is not writable by this user`,
      "run as the user that owns it, or give that user the folder",
    );
    return false;
  }
}

function checkUser(dataDir: string): boolean {
  if (process.getuid?.() === 0)
    process.stderr.write("warning: checked as root; the sitter itself refuses to run as root (sudo -u postgres …)\n");
  if (!existsSync(dataDir) || process.getuid?.() === 0 || statSync(dataDir).uid === process.getuid?.()) return true;
  complain(`dataDir: ${dataDir} belongs to another user`, "run the sitter as the owner of the data directory");
  return false;
}

function say(what: string, value: string): void {
  process.stdout.write(`${`${what}:`.padEnd(12)}${value}\n`);
}

function complain(problem: string, hint: string): void {
  process.stderr.write(`error: ${problem} (${hint})\n`);
}
