// What lies on the disk. While a server answers on it, it changes by this process alone, and reading it all again for each look would cost more than the look.

import { explainError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import { answeringServer, type DataObservation, type ServerObservation } from "../../cluster/observation.ts";
import type { Context } from "./context.ts";
import { observeData } from "./data-directory.ts";
import { keptFolders } from "./forks.ts";
import type { StorageSide } from "./storage-side.ts";

/** What others do on the disk (an operator who removes a fork), and a disk that hangs, is noticed after that: some three looks of a peer at rest. */
const KNOWN_MS: Ms = 3000;

interface Seen {
  readonly data: DataObservation;
  readonly forks: readonly string[];
}

export class DiskLook {
  readonly #context: Context;
  readonly #storageSide: StorageSide | undefined;
  #seen: (Seen & { readonly key: string; readonly at: Ms }) | undefined;

  constructor(context: Context, storageSide: StorageSide | undefined) {
    this.#context = context;
    this.#storageSide = storageSide;
  }

  /** `server` was looked at before: what a server that has ended leaves is read after its end. `busy`: a job works on the disk. */
  async look(
    server: ServerObservation,
    { pid, busy, major }: { pid: number | undefined; busy: boolean; major: number | undefined },
  ): Promise<Seen> {
    const { clock, mark } = this.#context;
    const running = busy ? undefined : answeringServer(server);
    const key = running && [pid, running.kind, running.wal.timeline, mark.revision, major].join(" ");
    const known = this.#seen;
    if (key !== undefined && known?.key === key && clock.now() - known.at < KNOWN_MS) return known;
    const at = clock.now();
    const seen = await this.#read(server, major);
    this.#seen = { ...seen, key: key ?? "", at };
    return seen;
  }

  async #read(server: ServerObservation, major: number | undefined): Promise<Seen> {
    await this.#storageSide?.settle();
    const known = this.#seen?.data;
    const data = await this.#readData(major).catch((error: unknown) =>
      // A disk that fails to be read for a moment says nothing new about what lies on it.
      known?.kind === "present" && server.kind !== "stopped" ? known : unreadable(explainError(error)),
    );
    const folders = await keptFolders(this.#context.places).catch((): string[] => []);
    return { data, forks: [...folders, ...((await this.#storageSide?.forks()) ?? [])] };
  }

  /** A dataset that is not in place is no empty directory. */
  async #readData(major: number | undefined): Promise<DataObservation> {
    const data = await observeData(this.#context.places, major);
    return data.kind === "none" ? ((await this.#storageSide?.away()) ?? data) : data;
  }
}

export function unreadable(reason: string): DataObservation {
  return {
    kind: "unusable",
    code: "PG_DATA_UNREADABLE",
    message: `the data directory can't be read (${reason})`,
    hint: "Look at the storage under the data directory.",
    mark: undefined,
  };
}
