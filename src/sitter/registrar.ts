// The registrar node: service discovery (DNS servers, manatee-stat) reads there which peer is primary. It is ephemeral, so that it can't
// outlive this sitter, and taken away as soon as this peer is not primary, or not open, any more.

import { registrarPath } from "../shard/registrar-path.ts";
import { explainError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { Observation } from "../cluster/observation.ts";
import type { Session, StoreOperation } from "../coordination/port.ts";
import type { World } from "../world/port.ts";

const RETRY_MS: Ms = 2_000;

export class Registrar {
  readonly #path: string;
  readonly #content: Uint8Array;
  readonly #world: World;
  #session: Session | undefined;
  #stopWatching: () => void = () => {};
  /** What the session's node is, as far as is known; undefined: to be looked at. */
  #registered: boolean | undefined;
  #busy = false;
  #againAt: Ms = Number.NEGATIVE_INFINITY;

  constructor({ shard, pgUrl, ttlSeconds, world }: { shard: string; pgUrl: string; ttlSeconds: number; world: World }) {
    this.#path = registrarPath(shard);
    this.#world = world;
    const content = { type: "database", database: { primary: pgUrl, ttl: ttlSeconds } };
    this.#content = new TextEncoder().encode(JSON.stringify(content));
  }

  /** Begins to make the store agree with what was observed. `session`: connected, or undefined. */
  follow(observation: Observation, session: Session | undefined): void {
    if (session !== this.#session) this.#take(session);
    const wanted = servesAsPrimary(observation);
    // A session that never registered anything has nothing to take away, but one that was taken up again may.
    if (!session || this.#busy || wanted === this.#registered || this.#world.clock.now() < this.#againAt) return;
    this.#busy = true;
    void this.#apply(session, wanted);
  }

  stop(): void {
    this.#take(undefined);
  }

  #take(session: Session | undefined): void {
    this.#stopWatching();
    this.#session = session;
    this.#registered = undefined;
    this.#stopWatching = session
      ? session.watch(this.#path, "data", () => {
          this.#registered = undefined;
        })
      : () => {};
  }

  async #apply(session: Session, wanted: boolean): Promise<void> {
    try {
      const done = wanted ? await this.#register(session) : await this.#unregister(session);
      if (done && session === this.#session) this.#registered = wanted;
      else if (!done) this.#againAt = this.#world.clock.now() + RETRY_MS;
    } catch (error) {
      this.#againAt = this.#world.clock.now() + RETRY_MS;
      this.#world.log.warn("registrar node not updated", { path: this.#path, error: explainError(error) });
    } finally {
      this.#busy = false;
    }
  }

  async #register(session: Session): Promise<boolean> {
    const there = await session.read(this.#path);
    const ours = there?.ephemeralOwner !== undefined && there.ephemeralOwner === session.id;
    if (there && ours && sameBytes(there.data, this.#content)) return true;
    if (!there) await makeParents(session, this.#path);
    // One that a former primary left is replaced, not waited for: the state says who is primary.
    const operations: StoreOperation[] = there ? [{ kind: "delete", path: this.#path, version: there.version }] : [];
    operations.push({ kind: "create", path: this.#path, data: this.#content, ephemeral: true });
    const outcome = await session.write(operations);
    if (outcome.kind === "yes")
      this.#world.log.info("registered as primary for service discovery", { path: this.#path });
    return outcome.kind === "yes";
  }

  async #unregister(session: Session): Promise<boolean> {
    const there = await session.read(this.#path);
    if (!there || there.ephemeralOwner === undefined || there.ephemeralOwner !== session.id) return true;
    const outcome = await session.write([{ kind: "delete", path: this.#path, version: there.version }]);
    return outcome.kind === "yes";
  }
}

function servesAsPrimary({ self, store, postgres }: Observation): boolean {
  const named = store.shard.kind === "document" && store.shard.state.primary.id === self.id;
  return named && postgres.server.kind === "primary" && postgres.server.settings.gate === "open";
}

async function makeParents(session: Session, path: string): Promise<void> {
  const parts = path.split("/").slice(1, -1);
  for (let depth = 1; depth <= parts.length; depth++) {
    const parent = `/${parts.slice(0, depth).join("/")}`;
    if ((await session.read(parent)) === undefined)
      await session.write([{ kind: "create", path: parent, data: new Uint8Array() }]);
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
