// The tree of nodes, and what a write does to it: all of it or nothing. Deterministic: the same writes in the same order make the
// same tree, which is what the embedded store's file relies on. Knows nothing of connections, time or disks.

import type { NodePath, NodeValue, OperationResult, Refusal, StoreOperation } from "../port.ts";
import type { WatchKey } from "./frames.ts";
import { WRITE_BYTES } from "./limits.ts";

export interface TreeNode {
  data: Uint8Array;
  version: number;
  createdAt: bigint;
  changedAt: bigint;
  changedWallMs: number;
  ephemeralOwner: string | undefined;
  /** Of the next sequential child; counts every child ever made, so that no number comes twice. */
  nextSequence: number;
  readonly children: Set<string>;
}

export interface Tree {
  readonly nodes: Map<NodePath, TreeNode>;
  /** Number of the last write. */
  lastChange: bigint;
}

export interface WriteContext {
  readonly session: string;
  readonly wallMs: number;
}

export type TreeWrite =
  | { readonly kind: "yes"; readonly results: readonly OperationResult[]; readonly changed: readonly WatchKey[] }
  | { readonly kind: "no"; readonly operation: number; readonly refusal: Refusal };

export function emptyTree(): Tree {
  return {
    nodes: new Map([["/", newNode(new Uint8Array(), { at: 0n, wallMs: 0, owner: undefined })]]),
    lastChange: 0n,
  };
}

/** Of its own: what happens to the one does not show in the other. */
export function copyTree(tree: Tree): Tree {
  const nodes = Array.from(
    tree.nodes,
    ([path, node]) => [path, { ...node, children: new Set(node.children) }] as const,
  );
  return { nodes: new Map(nodes), lastChange: tree.lastChange };
}

export function readNode(tree: Tree, path: NodePath): NodeValue | undefined {
  const node = tree.nodes.get(path);
  if (!node) return undefined;
  const { version, createdAt, changedAt, changedWallMs, ephemeralOwner } = node;
  return { data: node.data.slice(), version, createdAt, changedAt, changedWallMs, ephemeralOwner };
}

export function listChildren(tree: Tree, path: NodePath): readonly string[] | undefined {
  const node = tree.nodes.get(path);
  return node && [...node.children];
}

/** Applies the operations in order; where one is refused, takes back those before it. */
export function applyWrite(tree: Tree, operations: readonly StoreOperation[], context: WriteContext): TreeWrite {
  const at = tree.lastChange + 1n;
  const change: Change = { tree, at, context, undo: [], changed: [], bytes: 0 };
  const results: OperationResult[] = [];
  for (const [index, operation] of operations.entries()) {
    const result = applyOperation(change, operation);
    if (typeof result === "string") {
      for (const undo of change.undo.reverse()) undo();
      return { kind: "no", operation: index, refusal: result };
    }
    results.push(result);
  }
  tree.lastChange = at;
  return { kind: "yes", results, changed: change.changed };
}

/** Removes the nodes bound to that session. Ephemeral nodes have no children, so the order doesn't matter. */
export function endSession(tree: Tree, session: string): readonly WatchKey[] {
  const paths = [...tree.nodes].filter(([, node]) => node.ephemeralOwner === session).map(([path]) => path);
  const operations = paths.map((path) => ({ kind: "delete" as const, path }));
  if (operations.length === 0) return [];
  const result = applyWrite(tree, operations, { session, wallMs: 0 });
  return result.kind === "yes" ? result.changed : [];
}

/** Programmer's error where it is none: paths come from code and checked configuration. */
export function assertPath(path: NodePath): void {
  const whole = path === "/" || (/^(\/[^/]+)+$/.test(path) && !path.includes("\0"));
  if (!whole || path.split("/").some((part) => part === "." || part === ".."))
    throw new RangeError(`no path of a node: ${JSON.stringify(path)}`);
}

interface Change {
  readonly tree: Tree;
  readonly at: bigint;
  readonly context: WriteContext;
  readonly undo: (() => void)[];
  readonly changed: WatchKey[];
  bytes: number;
}

function applyOperation(change: Change, operation: StoreOperation): OperationResult | Refusal {
  if ("data" in operation) {
    change.bytes += operation.data.length;
    if (change.bytes > WRITE_BYTES) return "too-large";
  }
  switch (operation.kind) {
    case "create":
      return applyCreate(change, operation);
    case "set":
      return applySet(change, operation);
    case "check": {
      const node = change.tree.nodes.get(operation.path);
      if (!node) return "no-node";
      return node.version === operation.version ? { path: operation.path, version: undefined } : "bad-version";
    }
    case "delete":
      return applyDelete(change, operation);
    default:
      return operation satisfies never;
  }
}

function applyCreate(change: Change, operation: StoreOperation & { kind: "create" }): OperationResult | Refusal {
  const { tree, context, at } = change;
  const parentPath = parentOf(operation.path);
  if (operation.path === "/" || parentPath === undefined) return "node-exists";
  const parent = tree.nodes.get(parentPath);
  if (!parent) return "no-parent";
  if (parent.ephemeralOwner !== undefined) return "not-permitted";
  const path = operation.sequential
    ? `${operation.path}${String(parent.nextSequence).padStart(10, "0")}`
    : operation.path;
  if (tree.nodes.has(path)) return "node-exists";
  const name = nameOf(path);
  const owner = operation.ephemeral ? context.session : undefined;
  tree.nodes.set(path, newNode(operation.data.slice(), { at, wallMs: context.wallMs, owner }));
  parent.children.add(name);
  parent.nextSequence++;
  change.undo.push(() => {
    tree.nodes.delete(path);
    parent.children.delete(name);
    parent.nextSequence--;
  });
  change.changed.push(...appearanceOf(path, parentPath));
  return { path, version: 0 };
}

function applySet(
  change: Change,
  { path, data, version }: StoreOperation & { kind: "set" },
): OperationResult | Refusal {
  const node = change.tree.nodes.get(path);
  if (!node) return "no-node";
  if (node.version !== version) return "bad-version";
  const { data: oldData, changedAt, changedWallMs } = node;
  change.undo.push(() => Object.assign(node, { data: oldData, version, changedAt, changedWallMs }));
  node.data = data.slice();
  node.version++;
  node.changedAt = change.at;
  node.changedWallMs = change.context.wallMs;
  change.changed.push({ path, what: "data" });
  return { path, version: node.version };
}

function applyDelete(
  change: Change,
  { path, version }: StoreOperation & { kind: "delete" },
): OperationResult | Refusal {
  const { tree } = change;
  const parentPath = parentOf(path);
  const parent = parentPath === undefined ? undefined : tree.nodes.get(parentPath);
  if (parentPath === undefined) return "not-permitted";
  const node = tree.nodes.get(path);
  if (!node || !parent) return "no-node";
  if (version !== undefined && node.version !== version) return "bad-version";
  if (node.children.size > 0) return "not-empty";
  tree.nodes.delete(path);
  parent.children.delete(nameOf(path));
  change.undo.push(() => {
    tree.nodes.set(path, node);
    parent.children.add(nameOf(path));
  });
  change.changed.push(...appearanceOf(path, parentPath));
  return { path, version: undefined };
}

function newNode(
  data: Uint8Array,
  { at, wallMs, owner }: { at: bigint; wallMs: number; owner: string | undefined },
): TreeNode {
  return {
    data,
    version: 0,
    createdAt: at,
    changedAt: at,
    changedWallMs: wallMs,
    ephemeralOwner: owner,
    nextSequence: 0,
    children: new Set(),
  };
}

/** Who looks at a node that comes or goes: those at it, those at its children, and those at its folder. */
function appearanceOf(path: NodePath, parentPath: NodePath): readonly WatchKey[] {
  return [
    { path, what: "data" },
    { path, what: "children" },
    { path: parentPath, what: "children" },
  ];
}

function parentOf(path: NodePath): NodePath | undefined {
  if (path === "/") return undefined;
  const cut = path.lastIndexOf("/");
  return cut === 0 ? "/" : path.slice(0, cut);
}

function nameOf(path: NodePath): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
