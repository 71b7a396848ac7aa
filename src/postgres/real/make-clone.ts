// Makes clones: a server on a copy of a snapshot, which recovers to where the snapshot ends, begins a timeline of its own there, and takes writes. The shard's own server and its data
// are not touched, and the clone is nobody's peer: it bears no mark, no slots, no upstream, and a sitter finds it nowhere.

import { stat } from "node:fs/promises";
import { createServer } from "node:net";
import { explainError, ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { PostgresConfig } from "../../config/types.ts";
import { cloneHold, encodeClone } from "../../snapshots/clones.ts";
import type { Clone, ClonePlace, Clones, CloneSource } from "../clones.ts";
import { cloneWorkFolder, KeptClones, type KeptClonesOptions } from "./clones.ts";
import { cloneDataset, datasetAway } from "./dataset.ts";
import { errorCode } from "./durable.ts";
import { startRecovered } from "./recovered-server.ts";

export interface PeerClonesOptions extends KeptClonesOptions {
  readonly config: PostgresConfig;
}

/** Where ports are looked for: this far from the shard's. */
const PORT_STEP = 10_000;
const PORTS_TRIED = 100;
const PORT_MAX = 65_535;

/** Of the peer that this configuration describes. */
export class PeerClones implements Clones {
  readonly #options: PeerClonesOptions;
  readonly #kept: KeptClones;

  constructor(options: PeerClonesOptions) {
    this.#options = options;
    this.#kept = new KeptClones(options);
  }

  list(): Promise<readonly Clone[]> {
    return this.#kept.list();
  }

  drop(name: string): Promise<void> {
    return this.#kept.drop(name);
  }

  async place(): Promise<ClonePlace> {
    const { storage, dataset } = this.#options.storage;
    const found = await storage.look(dataset);
    if (!found) throw datasetAway(`there is no dataset ${dataset}`);
    await demandOwner(this.#options.config.dataDir);
    const { shared } = await storage.capabilities();
    const { used, free } = await storage.space(dataset);
    const freePercent = used + free === 0 ? 100 : Math.floor((free * 100) / (used + free));
    return { snapshots: await storage.snapshots(dataset), shared, freePercent };
  }

  async choosePort(wanted: number | undefined): Promise<number> {
    const taken = new Set([...this.#shardPorts(), ...(await this.list()).map(({ port }) => port)]);
    if (wanted !== undefined) {
      if (taken.has(wanted) || !(await isFree(wanted))) throw portTaken(`port ${wanted} is taken`);
      return wanted;
    }
    const { port } = this.#options.config;
    const first = port + PORT_STEP + PORTS_TRIED <= PORT_MAX ? port + PORT_STEP : port - PORT_STEP;
    for (let candidate = first; candidate < first + PORTS_TRIED; candidate++)
      if (!taken.has(candidate) && (await isFree(candidate))) return candidate;
    throw portTaken(`no port from ${first} to ${first + PORTS_TRIED - 1} is free`);
  }

  async make({
    snapshot,
    port,
    ttlMs,
    limitMs,
    onStep,
  }: {
    snapshot: CloneSource;
    port: number;
    ttlMs: Ms;
    limitMs: Ms;
    onStep: (text: string) => void;
  }): Promise<Clone> {
    const { clock } = this.#options;
    const { storage, dataset } = this.#options.storage;
    await demandOwner(this.#options.config.dataDir);
    await this.#kept
      .endOver()
      .catch((error: unknown) => onStep(`a clone whose time is over can't be removed: ${explainError(error)}`));
    const name = String(port);
    const [source, target] = [{ dataset, name: snapshot.name }, cloneDataset(dataset, name)];
    const madeWallMs = clock.wall();
    const untilWallMs = madeWallMs + ttlMs;
    const facts = { port, snapshot: snapshot.name, takenWallMs: snapshot.createdWallMs, madeWallMs, untilWallMs };
    onStep(`clones ${snapshot.name}`);
    // From its first moment it says what it is and when it goes: whatever ends us, somebody cleans up.
    await storage.clone(source, target, { properties: encodeClone(facts) });
    try {
      await storage.hold(source, cloneHold(name));
      const { folder } = await storage.mount(target);
      await this.#start(folder, { port, limitMs, onStep });
      return { ...facts, name, dataset: target, state: "running", socketDir: cloneWorkFolder(folder) };
    } catch (error) {
      await this.drop(name).catch((left: unknown) => onStep(`the clone can't be removed: ${explainError(left)}`));
      throw error;
    }
  }

  async #start(
    folder: string,
    { port, limitMs, onStep }: { port: number; limitMs: Ms; onStep: (text: string) => void },
  ): Promise<void> {
    const { config, clock, timers } = this.#options;
    await startRecovered({
      folder,
      config,
      port,
      hba: HBA,
      settings: { listen_addresses: "localhost", cluster_name: `manatee-clone-${port}` },
      detached: true,
      limitMs,
      onStep,
      clock,
      timers,
    });
  }

  #shardPorts(): readonly number[] {
    const { port } = this.#options.config;
    // PostgreSQL, and the sitter's status service.
    return [port, port + 1];
  }
}

/** From this machine only, by the roles and passwords that the data holds. The socket lies in a folder that only the data's owner enters. */
const HBA = ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256", "host all all ::1/128 scram-sha-256"];

/** PostgreSQL runs as who owns the data only, and refuses root. */
export async function demandOwner(dataDir: string): Promise<void> {
  const { uid } = await stat(dataDir).catch((error: unknown) => {
    throw errorCode(error) === "ENOENT" ? datasetAway(`there is no ${dataDir}`) : error;
  });
  if (uid === process.geteuid?.() && uid !== 0) return;
  throw new ManateeError({
    code: "CLONE_NOT_OWNER",
    message: `this is for the user that owns ${dataDir} (uid ${uid}), not for uid ${process.geteuid?.()}`,
    remedy: "operator",
    hint: "Run it as that user: sudo -u postgres manatee-adm …",
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "localhost" }, () => server.close(() => resolve(true)));
  });
}

function portTaken(what: string): ManateeError {
  return new ManateeError({
    code: "CLONE_PORT_TAKEN",
    message: what,
    remedy: "operator",
    hint: "Give another one (--port), or drop the clone that has it: manatee-adm clone --list.",
  });
}
