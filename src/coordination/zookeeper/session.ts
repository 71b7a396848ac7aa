// What callers ask of a session, in the store's messages. It goes out at once where the session is connected; where it is not,
// nothing is kept for later: the caller is told.

import type { ManateeError } from "../../base/errors.ts";
import type { Ms } from "../../base/units.ts";
import type { NodeValue, Session, SessionStatus, SessionTicket, StoreOperation, WriteOutcome } from "../port.ts";
import { toCallersPath, toStorePath } from "./chroot.ts";
import type { Answer, Connection, Request } from "./connection.ts";
import { callAborted, outcomeUnknown, sessionClosed, sessionExpired, unreachable } from "./errors.ts";
import type { JuteReader } from "./jute.ts";
import { Lifetime, type LifetimeContext } from "./lifetime.ts";
import {
  ERR,
  OP,
  readChildren,
  readStat,
  writeMulti,
  writePathAndWatch,
  writeSetWatches,
  XID,
  type MultiOperation,
} from "./messages.ts";
import { formatSessionId } from "./ticket.ts";
import { WatchTable } from "./watches.ts";
import { errorOfRead, outcomeOfError, readOutcome, tooLarge, toTransaction } from "./write.ts";

interface Settle<T> {
  readonly done: (value: T) => void;
  readonly fail: (error: Error) => void;
}

export class ZooKeeperSession implements Session {
  readonly evaluationOnly = false;
  private readonly context: LifetimeContext;
  private readonly lifetime: Lifetime;
  private readonly watches: WatchTable;
  private chrootThere: boolean;

  constructor(
    context: LifetimeContext,
    { sessionTimeoutMs, resume }: { sessionTimeoutMs: Ms; resume?: SessionTicket },
  ) {
    this.context = context;
    this.chrootThere = context.target.chroot === "";
    this.watches = new WatchTable({
      setExists: (path, settle) => this.setWatch(OP.exists, path, settle),
      setChildren: (path, settle) => this.setWatch(OP.getChildren, path, settle),
      defer: queueMicrotask,
    });
    this.lifetime = new Lifetime(context, {
      sessionTimeoutMs,
      resume,
      events: {
        reconnecting: (connection, lastZxid) => {
          if (!this.chrootThere) this.makeChroot(connection);
          for (const lists of this.watches.takeUp())
            connection.sendSpecial({ xid: XID.setWatches, type: OP.setWatches }, (to) =>
              writeSetWatches(to, lastZxid, lists),
            );
        },
        connected: () => this.watches.rearm(),
        event: (event) => this.watches.take(event),
        ended: () => this.watches.clear(),
      },
    });
  }

  get id(): string | undefined {
    return this.lifetime.id;
  }

  get status(): SessionStatus {
    return this.lifetime.status;
  }

  get timeoutMs(): Ms {
    return this.lifetime.timeoutMs;
  }

  get ticket(): SessionTicket | undefined {
    return this.lifetime.ticket;
  }

  onStatus(listener: (status: SessionStatus) => void): () => void {
    return this.lifetime.onStatus(listener);
  }

  async read(
    path: string,
    { confirmed = false, signal }: { confirmed?: boolean; signal?: AbortSignal } = {},
  ): Promise<NodeValue | undefined> {
    const storePath = this.storePath(path);
    return await this.ask<NodeValue | undefined>(signal, ({ done, fail }) => {
      const sync: Request = {
        type: OP.sync,
        write: (to) => to.string(storePath),
        settle: (answer) => {
          if (answer.kind === "lost") fail(this.lost(answer.error));
          else if (answer.header.error !== ERR.ok) fail(errorOfRead(answer.header.error, path));
        },
      };
      const read: Request = {
        type: OP.getData,
        write: (to) => writePathAndWatch(to, storePath, false),
        settle: (answer) => this.settleRead(answer, { path, done, fail, read: readNodeValue }),
      };
      // Answers come in order: where the first fails, the second is too late.
      return confirmed ? [sync, read] : [read];
    });
  }

  async list(path: string, { signal }: { signal?: AbortSignal } = {}): Promise<readonly string[] | undefined> {
    const storePath = this.storePath(path);
    return await this.ask<readonly string[] | undefined>(signal, ({ done, fail }) => [
      {
        type: OP.getChildren,
        write: (to) => writePathAndWatch(to, storePath, false),
        settle: (answer) => this.settleRead(answer, { path, done, fail, read: readChildren }),
      },
    ]);
  }

  watch(path: string, what: "data" | "children", listener: () => void): () => void {
    const storePath = this.storePath(path);
    return this.lifetime.isFinal ? () => {} : this.watches.add(storePath, what, listener);
  }

  async write(operations: readonly StoreOperation[], { signal }: { signal?: AbortSignal } = {}): Promise<WriteOutcome> {
    const transaction = toTransaction(operations, {
      acl: this.context.credentials.acl,
      toStorePath: (path) => this.storePath(path),
    });
    if (signal?.aborted === true) return { kind: "unsent", error: callAborted(signal.reason) };
    if (transaction.length === 0) return { kind: "yes", results: [] };
    const large = tooLarge(transaction);
    if (large !== undefined) return { kind: "no", operation: large, refusal: "too-large" };
    const connection = this.reach();
    if (connection.kind === "refused") return { kind: "unsent", error: connection.error };
    return await new Promise((resolve) => {
      const aborted = (): void =>
        resolve({ kind: "unknown", error: outcomeUnknown("the write was aborted after it was sent", signal?.reason) });
      signal?.addEventListener("abort", aborted, { once: true });
      connection.connection.send({
        type: OP.multi,
        write: (to) => writeMulti(to, transaction),
        settle: (answer) => {
          const outcome = this.outcomeOf(answer, transaction);
          signal?.removeEventListener("abort", aborted);
          resolve(outcome);
        },
      });
    });
  }

  close({ limitMs }: { limitMs?: Ms } = {}): Promise<void> {
    return this.lifetime.close(limitMs);
  }

  abandon(): Promise<void> {
    this.lifetime.abandon();
    return Promise.resolve();
  }

  private reach(): { kind: "ready"; connection: Connection } | { kind: "refused"; error: ManateeError } {
    const { description } = this.context;
    const connection = this.lifetime.ready;
    const status = this.lifetime.status;
    if (status.kind === "expired") return { kind: "refused", error: sessionExpired(status.reason) };
    if (status.kind === "closed" || this.lifetime.isClosing) return { kind: "refused", error: sessionClosed() };
    if (connection === undefined)
      return { kind: "refused", error: unreachable(`not connected to ${description}`, this.lifetime.lastFailure) };
    if (!connection.hasRoom)
      return { kind: "refused", error: unreachable(`${description} does not keep up with what is asked of it`) };
    return { kind: "ready", connection };
  }

  private ask<T>(signal: AbortSignal | undefined, requests: (settle: Settle<T>) => Request[]): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) throw callAborted(signal.reason);
      const reached = this.reach();
      if (reached.kind === "refused") throw reached.error;
      const aborted = (): void => reject(callAborted(signal?.reason));
      signal?.addEventListener("abort", aborted, { once: true });
      const settle: Settle<T> = {
        done: (value) => {
          signal?.removeEventListener("abort", aborted);
          resolve(value);
        },
        fail: (error) => {
          signal?.removeEventListener("abort", aborted);
          reject(error);
        },
      };
      for (const request of requests(settle)) reached.connection.send(request);
    });
  }

  private settleRead<T>(
    answer: Answer,
    { path, done, fail, read }: Settle<T | undefined> & { path: string; read: (from: JuteReader) => T },
  ): void {
    if (answer.kind === "lost") fail(this.lost(answer.error));
    else if (answer.header.error === ERR.ok) done(read(answer.body));
    else if (answer.header.error === ERR.noNode) done(undefined);
    else fail(errorOfRead(answer.header.error, path));
  }

  private outcomeOf(answer: Answer, transaction: readonly MultiOperation[]): WriteOutcome {
    const { target, description } = this.context;
    if (answer.kind === "lost")
      return {
        kind: "unknown",
        error: outcomeUnknown(`a write was sent to ${description} and its answer did not come`, answer.error),
      };
    if (answer.header.error !== ERR.ok) return outcomeOfError(answer.header.error);
    return readOutcome(answer.body, { transaction, toCallersPath: (path) => toCallersPath(target.chroot, path) });
  }

  /** Of a read that was under way when the connection ended: the session may have ended with it. */
  private lost(cause: Error): ManateeError {
    const status = this.lifetime.status;
    if (status.kind === "expired") return sessionExpired(status.reason);
    if (status.kind === "closed") return sessionClosed();
    return unreachable(`the connection to ${this.context.description} broke before the answer`, cause);
  }

  private storePath(path: string): string {
    return toStorePath(this.context.target.chroot, path);
  }

  private setWatch(type: number, path: string, settle: (there: boolean | undefined) => void): void {
    const connection = this.lifetime.ready;
    if (connection === undefined) return settle(undefined);
    connection.send({
      type,
      write: (to) => writePathAndWatch(to, path, true),
      settle: (answer) => {
        if (answer.kind === "lost") return settle(undefined);
        const { error } = answer.header;
        if (error === ERR.ok || error === ERR.noNode) return settle(error === ERR.ok);
        this.context.log.warn("the store refused to watch a node", { path, storeErrorCode: error });
        settle(undefined);
      },
    });
  }

  /** The node below which everything lies may not be there yet, and callers have no path with which to make it. */
  private makeChroot(connection: Connection): void {
    const { target, credentials } = this.context;
    const parts = target.chroot.split("/").slice(1);
    for (let depth = 1; depth <= parts.length; depth++) {
      const path = `/${parts.slice(0, depth).join("/")}`;
      const acl = credentials.acl;
      const create: MultiOperation = {
        kind: "create",
        path,
        data: new Uint8Array(),
        acl,
        ephemeral: false,
        sequential: false,
      };
      connection.send({
        type: OP.multi,
        write: (to) => writeMulti(to, [create]),
        settle: (answer) => {
          // Mostly: that it is there already. Whatever else it is, the first write below it meets the same.
          if (depth === parts.length && answer.kind === "answered" && answer.header.error === ERR.ok)
            this.chrootThere = true;
        },
      });
    }
  }
}

function readNodeValue(from: JuteReader): NodeValue {
  const data = from.bytesField();
  const stat = readStat(from);
  return {
    data,
    version: stat.version,
    createdAt: stat.createdZxid,
    changedAt: stat.changedZxid,
    changedWallMs: stat.changedWallMs,
    ephemeralOwner: stat.ephemeralOwner === 0n ? undefined : formatSessionId(stat.ephemeralOwner),
  };
}
