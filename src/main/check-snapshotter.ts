// `manatee-snapshotter --check`: what the configuration means, and whether this machine fits it. Looks only; takes and removes nothing.

import { explainError, ManateeError } from "../base/errors.ts";
import type { SnapshotterConfig } from "../config/snapshotter.ts";
import { findBinaries } from "../postgres/real/binaries.ts";
import { decodeFacts, verdictOf } from "../snapshots/facts.ts";
import { isOurs, judgeRetention } from "../snapshots/retention.ts";
import { localSitter } from "../snapshotter/local-sitter.ts";
import type { Storage } from "../storage/port.ts";
import type { World } from "../world/port.ts";
import { stateDirOf } from "./run-snapshotter.ts";
import { complain, say } from "./service-process.ts";

/** Prints its findings; true if nothing stands in the way. A sitter that does not run yet is a warning. */
export async function checkSnapshotter(
  config: SnapshotterConfig,
  storage: Storage,
  { network }: World,
): Promise<boolean> {
  const { dataset, intervalMs, retention, thinBelowPercent, stopBelowPercent, verification } = config;
  const { newest, hourly, daily, weekly } = retention;
  say("dataset", `${dataset} (${storage.description})`);
  say("takes", `one each ${intervalMs / 1000} s, one at each change of role, and on SIGUSR1`);
  say("keeps", `the newest ${newest}; of ${hourly} hours, ${daily} days and ${weekly} weeks the newest one`);
  say("space", `below ${thinBelowPercent} % free it removes more, below ${stopBelowPercent} % it takes none`);
  say("verifies", verification ? `one each ${verification.intervalMs / 1000} s` : "none");
  say("state", stateDirOf(config));
  const results = [await checkDataset(config, storage), await checkPostgres(config)];
  try {
    const place = await localSitter(network, config.sitter).place();
    say("sitter", place ? `${place.role} in generation ${place.generation}` : "knows of no shard yet");
  } catch (error) {
    process.stderr.write(`warning: ${explainError(error)}\n`);
  }
  return results.every(Boolean);
}

async function checkDataset({ dataset, retention }: SnapshotterConfig, storage: Storage): Promise<boolean> {
  try {
    if (!(await storage.capabilities()).atomic)
      return complain(
        `snapshots of ${dataset} would not show one instant`,
        "run no snapshotter here: peers are copied by base backup",
      );
    const found = await storage.look(dataset);
    if (!found) return complain(`dataset ${dataset} is not there`, "create it, or correct dataset");
    say("folder", `${found.folder}${found.mounted ? "" : " (not mounted)"}`);
    const snapshots = await storage.snapshots(dataset);
    const ours = snapshots.filter(isOurs);
    const { superfluous } = judgeRetention(snapshots, retention, undefined);
    const verified = ours.findLast(({ properties }) => verdictOf(properties)?.passed === true);
    say(
      "snapshots",
      `${ours.length} of ours, ${snapshots.length - ours.length} of others; ${superfluous.length} to go`,
    );
    say("newest", ours.at(-1)?.name ?? "none");
    say("verified", verified ? `${verified.name} (${decodeFacts(verified.properties)?.why ?? ""})` : "none yet");
    const { used, free } = await storage.space(dataset);
    say("free", `${Math.floor((free * 100) / Math.max(1, used + free))} % (${free} bytes)`);
    return true;
  } catch (error) {
    return complain(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
  }
}

async function checkPostgres({ verification }: SnapshotterConfig): Promise<boolean> {
  if (!verification) return true;
  try {
    const { version, binDir } = await findBinaries({ binDir: verification.binDir, major: undefined });
    say("postgres", `${version} in ${binDir}`);
    return true;
  } catch (error) {
    return complain(explainError(error), error instanceof ManateeError ? error.hint : "see the message");
  }
}
