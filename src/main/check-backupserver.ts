// `manatee-backupserver --check`: what the configuration means, and whether this machine fits it. Looks only; sends and changes nothing.

import { existsSync, readFileSync, statSync } from "node:fs";
import { localSitter } from "../snapshotter/local-sitter.ts";
import { explainError, ManateeError } from "../base/errors.ts";
import type { BackupServerConfig } from "../config/backup-server.ts";
import type { Storage } from "../storage/port.ts";
import type { World } from "../world/port.ts";
import { complain, say } from "./service-process.ts";

/** Prints its findings; true if nothing stands in the way. A sitter that does not run yet is a warning. */
export async function checkBackupServer(
  config: BackupServerConfig,
  storage: Storage,
  { network }: World,
): Promise<boolean> {
  const { dataset, host, port, sitter, openToAll } = config;
  say("dataset", `${dataset} (${storage.description})`);
  say("listens", `${config.tls ? "https" : "http"}://${host}:${port}/`);
  say("sends", `${config.sendingMax} at once, ${config.waitingMax} wait`);
  say("rate", config.bytesPerSecondMax === undefined ? "no limit" : `${config.bytesPerSecondMax} bytes/s`);
  say("open", openToAll ? "to everybody who reaches the port (openToAll)" : "to peers of the shard");
  const results = [await checkDataset(storage, dataset), checkCredential(config), checkTls(config)];
  try {
    say("peers", [...(await localSitter(network, sitter).peerAddresses())].join(" ") || "none yet");
  } catch (error) {
    process.stderr.write(`warning: ${explainError(error)}\n`);
  }
  return results.every(Boolean);
}

async function checkDataset(storage: Storage, dataset: string): Promise<boolean> {
  try {
    const { format, atomic, incremental, resume } = await storage.capabilities();
    const found = await storage.look(dataset);
    if (!found) return complain(`dataset ${dataset} is not there`, "create it, or correct backupSenderCfg.dataset");
    say("folder", `${found.folder}${found.mounted ? "" : " (not mounted)"}`);
    const able = Object.entries({ atomic, incremental, resume }).filter(([, can]) => can);
    say("streams", `${format}${able.length > 0 ? `: ${able.map(([name]) => name).join(", ")}` : ""}`);
    say("snapshots", String((await storage.snapshots(dataset)).length));
    return true;
  } catch (error) {
    return complain(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
  }
}

function checkCredential({ credentialFile }: BackupServerConfig): boolean {
  if (credentialFile === undefined) return true;
  if (!existsSync(credentialFile)) {
    process.stderr.write(
      `warning: ${credentialFile} is not there yet; the sitter makes it when the shard is founded\n`,
    );
    return true;
  }
  if ((statSync(credentialFile).mode & 0o077) !== 0)
    return complain(`${credentialFile} can be read by others`, `chmod 600 ${credentialFile}`);
  return canRead("credentialFile", credentialFile);
}

function checkTls({ tls }: BackupServerConfig): boolean {
  return (
    tls === undefined || [canRead("tls.certFile", tls.certFile), canRead("tls.keyFile", tls.keyFile)].every(Boolean)
  );
}

function canRead(key: string, path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch (error) {
    return complain(`${key}: ${explainError(error)}`, "give the user that runs the backup server read access");
  }
}
