// An operator's request to rebuild this peer from another (`manatee-adm rebuild`): a file, so that it survives a restart, read beside
// the loop, so that a disk that hangs holds nothing up.

import { explainError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { PostgresObservation } from "../cluster/observation.ts";
import type { Incarnation } from "../cluster/state.ts";
import type { World } from "../world/port.ts";

const READ_INTERVAL_MS = 1_000;

export class RebuildRequest {
  readonly #path: string;
  readonly #world: World;
  readonly #onChange: () => void;
  #requested = false;
  #reading = false;
  #readAt: Ms | undefined;
  /** Grows when a request is fulfilled: what was being read of the file meanwhile is old. */
  #fulfilled = 0;
  /** The copy that fulfils it. */
  #copy: Incarnation | undefined;

  constructor({ path, world, onChange }: { path: string; world: World; onChange: () => void }) {
    this.#path = path;
    this.#world = world;
    this.#onChange = onChange;
  }

  get requested(): boolean {
    return this.#requested;
  }

  /** Looks for the file, beside the loop and not too often. */
  look(): void {
    const now = this.#world.clock.now();
    if (this.#reading || (this.#readAt !== undefined && now - this.#readAt < READ_INTERVAL_MS)) return;
    this.#reading = true;
    this.#readAt = now;
    void this.#read();
  }

  copyBegan(incarnation: Incarnation): void {
    if (this.#requested) this.#copy = incarnation;
  }

  /** Takes the request away once the copy made for it is there, complete. */
  notice(postgres: PostgresObservation): void {
    const { data, job } = postgres;
    if (this.#copy === undefined || job !== undefined || data.kind !== "present" || data.mark === undefined) return;
    if (data.mark.incarnation !== this.#copy || data.mark.incomplete) return;
    this.#copy = undefined;
    this.#requested = false;
    this.#fulfilled++;
    this.#world.log.info("rebuild complete");
    void this.#remove();
  }

  /** Not read meanwhile: the request that was fulfilled would be taken for a new one. */
  async #remove(): Promise<void> {
    this.#reading = true;
    try {
      await this.#world.files.remove(this.#path);
    } catch (error) {
      this.#world.log.error("rebuild request not removed", { path: this.#path, error: explainError(error) });
    } finally {
      this.#reading = false;
    }
  }

  async #read(): Promise<void> {
    const fulfilled = this.#fulfilled;
    try {
      const there = (await this.#world.files.read(this.#path)) !== undefined;
      if (fulfilled === this.#fulfilled && there !== this.#requested) {
        this.#requested = there;
        this.#onChange();
      }
    } catch (error) {
      this.#world.log.warn("rebuild request not readable", { path: this.#path, error: explainError(error) });
    } finally {
      this.#reading = false;
    }
  }
}
