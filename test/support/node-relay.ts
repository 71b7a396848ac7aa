// The nodes of a store, read by a process of the unprivileged user's: the embedded store is its owner's alone.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { StoreConfig } from "../../src/config/types.ts";
import type { NodeReader } from "./documents.ts";
import { isAlive, signal, waitGone } from "./processes.ts";
import type { Runtime } from "./runtime.ts";
import { runAs } from "./unprivileged.ts";

export const RELAY_PROGRAM = "node-relay.mjs";

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

interface EncodedNode {
  readonly data: string;
  readonly version: number;
  readonly changedWallMs: number;
}

export class NodeRelay implements NodeReader {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  constructor(runtime: Runtime, store: StoreConfig) {
    this.#child = spawn(runtime.node, [join(runtime.folder, RELAY_PROGRAM), runtime.folder, JSON.stringify(store)], {
      ...runAs().credentials,
      cwd: "/",
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdin?.on("error", () => undefined);
    this.#child.on("exit", () => this.#rejectAll());
    if (this.#child.stdout !== null)
      createInterface({ input: this.#child.stdout }).on("line", (line) => this.#answered(line));
  }

  async read(path: string) {
    const node = (await this.#ask({ op: "read", path })) as EncodedNode | undefined;
    return node && { ...node, data: Buffer.from(node.data, "base64") };
  }

  async list(path: string) {
    return (await this.#ask({ op: "list", path })) as readonly string[] | undefined;
  }

  async set(path: string, data: Uint8Array, version: number): Promise<void> {
    await this.#ask({ op: "set", path, data: Buffer.from(data).toString("base64"), version });
  }

  async close(): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined || !isAlive(pid)) return;
    const gone = once(this.#child, "exit");
    this.#child.stdin?.end();
    if (!(await waitGone(pid, 5000))) signal(pid, "SIGKILL");
    await gone;
  }

  #ask(request: object): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      if (this.#child.exitCode !== null) this.#rejectAll();
      else this.#child.stdin?.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  #answered(line: string): void {
    const { id, result, error } = JSON.parse(line) as { id: number; result?: unknown; error?: string };
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) pending?.resolve(result ?? undefined);
    else pending?.reject(new Error(error));
  }

  #rejectAll(): void {
    for (const pending of this.#pending.values()) pending.reject(new Error("the reader of the store has ended"));
    this.#pending.clear();
  }
}
