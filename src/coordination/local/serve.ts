// Serves the embedded store: claims the folder, reads the file, listens on the socket. Runs in the process of server-process.ts, or
// inside any process that uses the store.

import { rm, stat } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import { type StoreServer, storeServer } from "../memory/server.ts";
import { claimService } from "./claim.ts";
import { socketAddress } from "./directory.ts";
import { openJournal, readContent } from "./journal.ts";
import { decodeClientFrame, encodeFrame, lineSplitter } from "./wire.ts";

/** Without a connection for so long, the server ends: the next user starts another, and sessions keep their time. */
const UNUSED_LIMIT_MS: Ms = 1000;
/** Of looks whether anybody is connected, and whether the folder is still there. */
const LOOK_INTERVAL_MS: Ms = 250;
/** What a client that doesn't read may leave in this process. */
const UNSENT_BYTES_MAX = 32 * 1024 * 1024;

export interface ServeOptions {
  /** Prepared. */
  readonly directory: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: Log;
}

export interface Serving {
  /** Resolves when it has stopped, whyever, and its claim is given back. */
  readonly stopped: Promise<void>;
  stop(): Promise<void>;
}

/** undefined: another process serves. Rejects where the folder or the file can't be used; then nothing is claimed. */
export async function serveStore(options: ServeOptions): Promise<Serving | undefined> {
  const result = await claimService(options.directory);
  if (result.kind === "taken") return undefined;
  try {
    return await Service.start(options, () => result.claim.release());
  } catch (error) {
    await result.claim.release();
    throw error;
  }
}

class Service implements Serving {
  readonly stopped: Promise<void>;
  readonly #options: ServeOptions;
  readonly #store: StoreServer;
  readonly #listener: Server;
  readonly #cleanUp: () => Promise<void>;
  readonly #sockets = new Set<Socket>();
  #stopping: Promise<void> | undefined;
  #onStopped: () => void = () => {};
  #lastUsedAt: Ms;
  #cancelLook: () => void = () => {};

  static async start(options: ServeOptions, release: () => Promise<void>): Promise<Service> {
    const { directory } = options;
    const content = await readContent(directory);
    let failed: (error: unknown) => void = () => {};
    const journal = await openJournal({ directory, content, onFailure: (error) => failed(error) });
    const store = storeServer({
      ...options,
      name: `pid ${process.pid}`,
      tree: content.tree,
      sessions: [...content.sessions.values()],
      journal,
    });
    const listener = createServer();
    const address = socketAddress(directory);
    const cleanUp = async () => {
      // In this order: the next server must find neither our socket in its way nor our file half-written.
      await new Promise((resolve) => listener.close(resolve));
      address.release();
      await journal.close().catch(() => {});
      await release();
    };
    const service = new Service(options, { store, listener, cleanUp });
    failed = (error) => {
      options.log.error("the embedded store can't write its file", { directory, error: String(error) });
      void service.stop();
    };
    try {
      await rm(address.path, { force: true });
      listener.listen(address.path);
      await once(listener, "listening");
    } catch (error) {
      await service.stop();
      throw error;
    }
    listener.on("error", (error) => options.log.warn("the embedded store's socket failed", { error: error.message }));
    return service;
  }

  private constructor(
    options: ServeOptions,
    parts: { store: StoreServer; listener: Server; cleanUp: () => Promise<void> },
  ) {
    this.#options = options;
    this.#store = parts.store;
    this.#listener = parts.listener;
    this.#cleanUp = parts.cleanUp;
    this.#lastUsedAt = options.clock.now();
    this.stopped = new Promise((resolve) => {
      this.#onStopped = resolve;
    });
    this.#listener.on("connection", (socket) => this.#accept(socket));
    this.#listener.unref();
    this.#look();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#cancelLook();
    this.#store.stop();
    for (const socket of this.#sockets) socket.destroy();
    await this.#cleanUp();
    this.#onStopped();
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    // Inside a process of its own this keeps nothing alive: whoever is connected does.
    socket.unref();
    const inlet = this.#store.accept({
      send: (frame) => {
        if (socket.writableLength > UNSENT_BYTES_MAX) socket.destroy();
        else socket.write(encodeFrame(frame));
      },
      end: () => socket.end(),
    });
    socket.on(
      "data",
      lineSplitter(
        (line) => {
          const frame = decodeClientFrame(line);
          if (frame) inlet.receive(frame);
          else socket.destroy();
        },
        () => socket.destroy(),
      ),
    );
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#sockets.delete(socket);
      this.#lastUsedAt = this.#options.clock.now();
      inlet.closed();
    });
  }

  #look(): void {
    this.#cancelLook = this.#options.timers.after(LOOK_INTERVAL_MS, () => void this.#lookNow());
  }

  async #lookNow(): Promise<void> {
    const { clock, directory, log } = this.#options;
    const there = await stat(directory).then(
      () => true,
      () => false,
    );
    if (!there) {
      log.warn("the folder of the embedded store is gone", { directory });
      await this.stop();
    } else if (this.#sockets.size === 0 && clock.now() - this.#lastUsedAt >= UNUSED_LIMIT_MS) await this.stop();
    else if (!this.#stopping) this.#look();
  }
}
