// The embedded store for one machine: for the demo, development and evaluation, without any program beside Node. Its processes share
// it through a socket in a folder. docs/decisions/0003-embedded-store.md says why it has a process of its own.

import { spawn } from "node:child_process";
import { closeSync, openSync, statSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { explainError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import type { Connect, LinkListeners } from "../memory/frames.ts";
import { openSession } from "../memory/session.ts";
import type { Coordination, Session } from "../port.ts";
import { currentHolder } from "./claim.ts";
import { prepareDirectory, socketAddress } from "./directory.ts";
import { serveStore } from "./serve.ts";
import { FAILED, serverProgram } from "./server-process.ts";
import { decodeStoreFrame, encodeFrame, lineSplitter } from "./wire.ts";

export interface LocalStoreOptions {
  /** Made where it is missing; its owner's alone (0700). */
  readonly directory: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /**
   * Who serves where nobody does. `process`: a process of its own. `inside`: this process, for as long as it lives. Default:
   * `process`, but where Node can't run it (from the sources, on a Node that doesn't read TypeScript), `inside`.
   */
  readonly serve?: "process" | "inside";
}

/** Of the environment: what Node itself may need to run. Its options and debuggers are this process's alone. */
const INHERITED = ["PATH", "HOME", "LD_LIBRARY_PATH"];
/** The log of the serving process begins anew at this size. */
const LOG_BYTES_MAX = 1024 * 1024;
/** A server that was just started and can't be reached yet is not joined by another one before this. */
const START_PATIENCE_MS: Ms = 1000;
/** A damaged file or a full disk is not over within moments. */
const FAILED_PATIENCE_MS: Ms = 10_000;

/** Throws STORE_DIRECTORY. */
export function localStore(options: LocalStoreOptions): Coordination {
  const directory = prepareDirectory(options.directory);
  const starter = new Starter({ ...options, directory });
  return {
    description: `embedded store in ${directory} (for evaluation only)`,
    open({ sessionTimeoutMs, resume }) {
      options.log.warn("the embedded store is for evaluation only: it is as reliable as this one machine", {
        directory,
      });
      const session = openSession({
        ...options,
        connect: connectTo(directory, starter),
        sessionTimeoutMs,
        resume,
        evaluationOnly: true,
      });
      keepAlive(session);
      return session;
    },
  };
}

/** The process that serves that folder at the moment; undefined: nobody does. For demos and tests, which end what they started. */
export async function storeProcess(directory: string): Promise<number | undefined> {
  return (await currentHolder(directory))?.pid;
}

/** Between two attempts nothing else might keep a process alive that waits for the store. */
function keepAlive(session: Session): void {
  const timer = setInterval(() => {}, 60_000);
  session.onStatus(({ kind }) => {
    if (kind === "expired" || kind === "closed") clearInterval(timer);
  });
}

function connectTo(directory: string, starter: Starter): Connect {
  return (listeners) => {
    const address = socketAddress(directory);
    const socket = createConnection(address.path);
    let connected = false;
    let reason = "the server closed the connection";
    let silenced = false;
    const tell = (what: (listeners: LinkListeners) => void) => {
      if (!silenced) what(listeners);
    };
    socket.on("connect", () => {
      connected = true;
      starter.reached();
      tell((each) => each.opened());
    });
    socket.on(
      "data",
      lineSplitter(
        (line) => {
          const frame = decodeStoreFrame(line);
          if (frame) tell((each) => each.received(frame));
          else socket.destroy(new Error("the server sent what is no frame"));
        },
        () => socket.destroy(new Error("the server sent a line without end")),
      ),
    );
    socket.on("error", (error) => {
      reason = error.message;
    });
    socket.on("close", () => {
      address.release();
      if (!connected) starter.unreachable();
      tell((each) => each.closed(reason));
    });
    return {
      send: (frame) => void socket.write(encodeFrame(frame)),
      close: () => {
        silenced = true;
        // What was written goes out first, where there is somebody to take it; nobody waits for that.
        if (connected) socket.destroySoon();
        else socket.destroy();
        socket.unref();
      },
    };
  };
}

/** Sees to it that somebody serves. One attempt at a time in this process; between processes the claim decides. */
class Starter {
  readonly #options: LocalStoreOptions;
  /** No attempt before this. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #busy = false;
  /** The last process that was started failed: serve inside, where its reason can be told. */
  #failed = false;

  constructor(options: LocalStoreOptions) {
    this.#options = options;
  }

  reached(): void {
    this.#notBefore = Number.NEGATIVE_INFINITY;
  }

  unreachable(): void {
    if (this.#busy || this.#options.clock.now() < this.#notBefore) return;
    this.#busy = true;
    void this.#start();
  }

  async #start(): Promise<void> {
    const { clock, serve, directory } = this.#options;
    // One that is still reading its file, or another user's that is quicker: no use to start a second.
    if (await currentHolder(directory).catch(() => undefined)) {
      this.#busy = false;
      return;
    }
    const program = serverProgram();
    this.#notBefore = clock.now() + START_PATIENCE_MS;
    if (serve === "inside" || program === undefined || this.#failed) await this.#serveInside();
    else this.#startProcess(program);
  }

  async #serveInside(): Promise<void> {
    const { log, directory, clock } = this.#options;
    try {
      const serving = await serveStore(this.#options);
      if (serving) log.info("this process serves the embedded store", { directory });
    } catch (error) {
      log.error("the embedded store can't be served", { directory, error: explainError(error) });
      this.#notBefore = clock.now() + FAILED_PATIENCE_MS;
    }
    this.#failed = false;
    this.#busy = false;
  }

  #startProcess(program: string): void {
    const { directory, log } = this.#options;
    const end = (failed: boolean) => {
      this.#busy = false;
      this.#failed = failed;
      this.#notBefore = Number.NEGATIVE_INFINITY;
    };
    try {
      const inherited = Object.fromEntries(INHERITED.map((name) => [name, process.env[name]]));
      const output = openLog(join(directory, "server.log"));
      // Of its own session: what ends this process, or its terminal, does not end the others' store. Nothing is inherited that
      // could change how it runs.
      const child = spawn(process.execPath, [program, directory], {
        cwd: "/",
        detached: true,
        env: inherited,
        stdio: ["ignore", output, output],
      });
      closeSync(output);
      child.unref();
      child.on("error", (error) => {
        log.warn("the embedded store's process can't be started", { error: error.message });
        end(true);
      });
      // One that was killed had not failed.
      child.on("exit", (status) => end(status === FAILED));
      log.debug("a process for the embedded store was started", { directory, pid: child.pid });
    } catch (error) {
      log.warn("the embedded store's process can't be started", { error: explainError(error) });
      end(true);
    }
  }
}

function openLog(path: string): number {
  let size = 0;
  try {
    size = statSync(path).size;
  } catch {
    // Not there yet.
  }
  return openSync(path, size > LOG_BYTES_MAX ? "w" : "a", 0o600);
}
