// Which nodes are looked at, and which of the store's one-shot watches stand for them. Pure book-keeping: what is to be sent goes
// through the port that is handed in. Paths here are the store's own (with chroot).
//
// A node has up to two watches in the store: `exists` (fires on creation, change, deletion; can be set on a node that isn't there) and
// `children` (only on a node that is). To look at children both are set, one right after the other, so that neither a creation nor a deletion
// between the two can be missed. Listeners are called when the store has answered that the watches are set anew: what they read then is newer
// than the watch, and what happens after the call is told by another.

import { SET_WATCHES_BYTES } from "./limits.ts";
import { EVENT, type NodeEvent, type WatchLists } from "./messages.ts";

export type Looked = "data" | "children";

export interface WatchPort {
  /** Sends the request that sets it, where connected. `settle`: whether the node is there; undefined: it could not be set. */
  setExists(path: string, settle: (there: boolean | undefined) => void): void;
  setChildren(path: string, settle: (there: boolean | undefined) => void): void;
  /** Calls back soon, and never from within the call. */
  defer(callback: () => void): void;
}

interface Entry {
  readonly listeners: Record<Looked, Set<Listener>>;
  /** What the store is known to hold for us on this connection. */
  existsSet: boolean;
  childrenSet: boolean;
  /** As last heard; undefined: not known, so that the watches have to be set by asking. */
  there: boolean | undefined;
}

interface Listener {
  readonly call: () => void;
  stopped: boolean;
}

export class WatchTable {
  private readonly port: WatchPort;
  private readonly entries = new Map<string, Entry>();
  private due = new Set<Listener>();
  /** Grows with each connection: an answer of an earlier one tells nothing. */
  private connection = 0;

  constructor(port: WatchPort) {
    this.port = port;
  }

  /** Paths with listeners. */
  get size(): number {
    return this.entries.size;
  }

  add(path: string, what: Looked, call: () => void): () => void {
    let entry = this.entries.get(path);
    if (entry === undefined) {
      entry = {
        listeners: { data: new Set(), children: new Set() },
        existsSet: false,
        childrenSet: false,
        there: undefined,
      };
      this.entries.set(path, entry);
    }
    const listener: Listener = { call, stopped: false };
    entry.listeners[what].add(listener);
    this.arm(path, entry);
    return () => {
      listener.stopped = true;
      entry.listeners[what].delete(listener);
      const { data, children } = entry.listeners;
      if (data.size + children.size === 0 && this.entries.get(path) === entry) this.entries.delete(path);
    };
  }

  /** The session is over: nobody is called any more. */
  clear(): void {
    this.entries.clear();
    this.due = new Set();
  }

  /** What a new connection has to be told of, in parts that fit into one request each. Watches not known well enough are set by asking: `rearm`. */
  takeUp(): WatchLists[] {
    this.connection++;
    const lists: { data: string[]; exists: string[]; children: string[] }[] = [];
    let size = Number.POSITIVE_INFINITY;
    for (const [path, entry] of this.entries) {
      entry.existsSet = entry.there !== undefined;
      entry.childrenSet = entry.there === true && entry.listeners.children.size > 0;
      if (entry.there === undefined) continue;
      // A length before each, in up to two lists, and at most three bytes a UTF-16 unit.
      const cost = 2 * (4 + path.length * 3);
      if (size + cost > SET_WATCHES_BYTES) {
        lists.push({ data: [], exists: [], children: [] });
        size = 0;
      }
      size += cost;
      const list = lists.at(-1);
      list?.[entry.there ? "data" : "exists"].push(path);
      if (entry.childrenSet) list?.children.push(path);
    }
    return lists;
  }

  /** Sets what is not set, and calls everybody: what happened while cut off is not known. */
  rearm(): void {
    for (const [path, entry] of this.entries) this.arm(path, entry, ["data", "children"]);
  }

  take(event: NodeEvent): void {
    const entry = this.entries.get(event.path);
    if (entry === undefined) return;
    if (event.type === EVENT.childrenChanged) {
      entry.childrenSet = false;
    } else {
      entry.existsSet = false;
      if (event.type === EVENT.deleted) entry.childrenSet = false;
    }
    const owed: Looked[] = [];
    if (event.type !== EVENT.childrenChanged) owed.push("data");
    if (event.type !== EVENT.dataChanged) owed.push("children");
    this.arm(event.path, entry, owed);
  }

  /** Sets what is not set, and then calls the listeners to whom that is owed. */
  private arm(path: string, entry: Entry, owed: readonly Looked[] = []): void {
    const connection = this.connection;
    const { data, children } = entry.listeners;
    const exists = !entry.existsSet;
    const childrenToo = !entry.childrenSet && children.size > 0;
    const pay = (): void => {
      for (const what of owed) this.notify(what === "data" ? data : children);
    };
    if (exists) {
      entry.existsSet = true;
      this.port.setExists(path, (there) => {
        if (connection === this.connection) {
          entry.there = there;
          if (there === undefined) entry.existsSet = false;
        }
        if (!childrenToo) pay();
      });
    }
    if (childrenToo) {
      entry.childrenSet = true;
      this.port.setChildren(path, (there) => {
        // Not there: `exists`, set before, tells of its creation, and sets this one again.
        if (connection === this.connection && there !== true) entry.childrenSet = false;
        pay();
      });
    }
    if (!exists && !childrenToo) pay();
  }

  private notify(listeners: ReadonlySet<Listener>): void {
    if (listeners.size === 0) return;
    if (this.due.size === 0) this.port.defer(() => this.flush());
    for (const listener of listeners) this.due.add(listener);
  }

  /** Several changes before a listener gets its turn are one call. */
  private flush(): void {
    const due = this.due;
    this.due = new Set();
    for (const listener of due) if (!listener.stopped) listener.call();
  }
}
