// A table of the simulated shard, for people.

import { formatLsn } from "../src/base/lsn.ts";
import { roleOf } from "../src/cluster/state.ts";
import { notSettled, peerById } from "./checkers.ts";
import { summary } from "./world/store.ts";
import type { SimPeer, World } from "./world/types.ts";
import { showWal, walEnd } from "./world/wal.ts";

export function showShard(world: World): string {
  const { state, version, up } = world.store;
  const rows = [
    ["PEER", "ROLE", "SITTER", "POSTGRES", "FROM", "TL", "END", "WAL"],
    ...world.peers.map((peer) => row(world, peer)),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
  const table = rows.map((cells) =>
    cells.map((cell, i) => (i === cells.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join("  "),
  );
  const missing = notSettled(world);
  return [
    `store: ${up ? "" : "down, "}${state ? `version ${version}, ${summary(world, state)}` : "no state"}`,
    ...table,
    `clients: ${world.clients.acknowledged.size} acknowledged, ${waiting(world)}`,
    missing.length === 0 ? "the shard is well" : `missing: ${missing.join("; ")}`,
  ].join("\n");
}

function waiting(world: World): string {
  const values = world.peers.flatMap(({ name, server }) =>
    (server?.waiting ?? []).map(({ value }) => `${value} on ${name}`),
  );
  return values.length > 0 ? `waiting: ${values.join(", ")}` : "none waiting";
}

function row(world: World, peer: SimPeer): string[] {
  const { state } = world.store;
  const { sitter, server, data } = peer;
  const role = state ? roleOf(state, peer.address.id) : "none";
  const sits = !peer.hostUp
    ? "host down"
    : !sitter
      ? "dead"
      : peer.paused
        ? "paused"
        : sitter.connected
          ? "well"
          : "cut off";
  const from = server?.receiver ? `${server.receiver.upstream}${server.receiver.kind === "streaming" ? "" : "?"}` : "-";
  const known = state && peerById(world, peer.address.id) && data?.mark;
  const renamed =
    known &&
    role !== "none" &&
    ![state.primary, state.sync, ...state.async, ...state.deposed].some(
      (entry) => entry?.id === peer.address.id && entry.incarnation === data.mark?.incarnation,
    );
  return [
    peer.name,
    renamed ? `${role} (other data)` : role,
    sits,
    describeServer(peer),
    from,
    data ? String(data.wal.timeline) : "-",
    data ? formatLsn(walEnd(data.wal)) : "-",
    data ? showWal(data.wal) : "no data",
  ];
}

export function describeServer({ server, sitter }: SimPeer): string {
  const job = sitter?.job ? ` (${sitter.job.kind})` : "";
  if (!server) return `down${job}`;
  const kind = server.promoting ? "promoting" : server.kind;
  const open = server.kind === "primary" ? (server.settings.gate === "open" ? ", open" : ", closed") : "";
  return `${kind}${open}${server.frozen ? ", hung" : ""}${job}`;
}
