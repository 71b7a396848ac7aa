// What a session and a store of our own say to each other. Frames arrive in order or not at all; local/ writes them as JSON.

import type { Ms } from "../../base/units.ts";
import type { NodePath, NodeValue, OperationResult, Refusal, SessionTicket, StoreOperation } from "../port.ts";

export type WatchKind = "data" | "children";

export interface WatchKey {
  readonly path: NodePath;
  readonly what: WatchKind;
}

export type ClientFrame =
  /** The first one. `resume`: that session; with `orNew` a new one where the store no longer has it. */
  | {
      readonly kind: "hello";
      readonly timeoutMs: Ms;
      readonly resume: SessionTicket | undefined;
      readonly orNew: boolean;
    }
  | { readonly kind: "ping"; readonly call: number }
  /** `confirmed`: not from a copy that may be behind. Stores with one server have no other. */
  | { readonly kind: "read"; readonly call: number; readonly path: NodePath; readonly confirmed: boolean }
  | { readonly kind: "list"; readonly call: number; readonly path: NodePath }
  | { readonly kind: "write"; readonly call: number; readonly operations: readonly StoreOperation[] }
  | ({ readonly kind: "watch" | "unwatch" } & WatchKey)
  | { readonly kind: "close"; readonly call: number };

export type StoreFrame =
  | { readonly kind: "welcome"; readonly ticket: SessionTicket; readonly timeoutMs: Ms; readonly server: string }
  /** The store has no such session (any more). */
  | { readonly kind: "gone"; readonly reason: string }
  | { readonly kind: "answer"; readonly call: number; readonly answer: Answer }
  | ({ readonly kind: "changed" } & WatchKey);

export type Answer =
  | { readonly kind: "done" }
  | { readonly kind: "node"; readonly node: NodeValue | undefined }
  | { readonly kind: "names"; readonly names: readonly string[] | undefined }
  | { readonly kind: "yes"; readonly results: readonly OperationResult[] }
  | { readonly kind: "no"; readonly operation: number; readonly refusal: Refusal };

/** One way out of a process; frames come back through the listeners it was made with. */
export interface Link {
  send(frame: ClientFrame): void;
  /** The listeners hear nothing any more. */
  close(): void;
}

/** None of them is called during `connect`, `send` or `close`. */
export interface LinkListeners {
  opened(): void;
  received(frame: StoreFrame): void;
  /** It broke, or never came to be. Called at most once, and last. */
  closed(reason: string): void;
}

export type Connect = (listeners: LinkListeners) => Link;
