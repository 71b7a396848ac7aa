// An operator's request to rebuild this peer from another (`manatee-adm rebuild`): a file, so that it survives a restart, read beside
// the loop, so that a disk that hangs holds nothing up. One that can't be understood is left where it is, and nothing is done.

import { explainError, ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { PostgresObservation } from "../cluster/observation.ts";
import { leavesRoomForLess, type RebuildWish, type RejoinWay } from "../cluster/rejoin-way.ts";
import type { Incarnation, PeerAddress } from "../cluster/state.ts";
import { parseRebuildRequest } from "../status/rebuild-file.ts";
import type { World } from "../world/port.ts";

const READ_INTERVAL_MS = 1_000;

export class RebuildRequest {
  readonly #path: string;
  readonly #world: World;
  readonly #onChange: () => void;
  /** As it was last read, and what it says. */
  #text: string | undefined;
  #wish: RebuildWish | undefined;
  /** Why it can't be understood. */
  #problem: string | undefined;
  #reading = false;
  #readAt: Ms | undefined;
  /** Grows when a request is fulfilled: what was being read of the file meanwhile is old. */
  #fulfilled = 0;
  /** What fulfils it: data of that name, from that peer. */
  #begun: { readonly incarnation: Incarnation; readonly from: PeerAddress } | undefined;

  constructor({ path, world, onChange }: { path: string; world: World; onChange: () => void }) {
    this.#path = path;
    this.#world = world;
    this.#onChange = onChange;
  }

  get wish(): RebuildWish | undefined {
    return this.#wish;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  /** Looks for the file, beside the loop and not too often. */
  look(): void {
    const now = this.#world.clock.now();
    if (this.#reading || (this.#readAt !== undefined && now - this.#readAt < READ_INTERVAL_MS)) return;
    this.#reading = true;
    this.#readAt = now;
    void this.#read();
  }

  /** What ends as data of that name. Less than a copy is what was asked for only where the wish leaves room for it: a fork may be left without anybody asking. */
  began({ by, ...work }: { by: RejoinWay; incarnation: Incarnation; from: PeerAddress }): void {
    const wish = this.#wish;
    if (!wish) return;
    const isAsked = by === "copy" || leavesRoomForLess(wish, { primary: work.from.id, forked: true });
    if (isAsked) this.#begun = work;
  }

  /** Takes the request away once the data made for it is there, complete. */
  notice(postgres: PostgresObservation): void {
    const { data, job } = postgres;
    if (this.#begun === undefined || job !== undefined || data.kind !== "present" || data.mark === undefined) return;
    const { incarnation, source, incomplete } = data.mark;
    // The name alone is renewed before the data is touched: what names no source has not come from there yet.
    if (incarnation !== this.#begun.incarnation || source !== this.#begun.from.id || incomplete) return;
    this.#begun = undefined;
    this.#text = undefined;
    this.#wish = undefined;
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
      const text = await this.#world.files.read(this.#path);
      if (fulfilled === this.#fulfilled && text !== this.#text) this.#take(text);
    } catch (error) {
      this.#world.log.warn("rebuild request not readable", { path: this.#path, error: explainError(error) });
    } finally {
      this.#reading = false;
    }
  }

  #take(text: string | undefined): void {
    this.#text = text;
    this.#wish = undefined;
    this.#problem = undefined;
    try {
      this.#wish = text === undefined ? undefined : parseRebuildRequest(text);
    } catch (error) {
      if (!(error instanceof ManateeError)) throw error;
      this.#problem = `${this.#path}: ${error.message}`;
      this.#world.log.error("rebuild request not understood", {
        path: this.#path,
        code: error.code,
        error: error.message,
        hint: error.hint,
      });
    }
    this.#onChange();
  }
}
