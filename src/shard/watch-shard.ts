// Watches all of a shard that a peer decides on: the state, who is in the election, and what each of them says.

import type { NodePath, Session } from "../coordination/port.ts";

export interface ShardWatch {
  readonly session: Session;
  readonly statePath: NodePath;
  readonly electionPath: NodePath;
  readonly listener: () => void;
}

/** The listener only means "look again"; it may be called without any change. Returns how to stop. */
export function watchShard({ session, statePath, electionPath, listener }: ShardWatch): () => void {
  const nodes = new Map<string, () => void>();
  let stopped = false;
  /** `again`: the list changed while it was being read. */
  let reading: "no" | "yes" | "again" = "no";

  const changed = () => {
    if (!stopped) listener();
  };

  const follow = (names: readonly string[]) => {
    for (const [name, stop] of nodes)
      if (!names.includes(name)) {
        stop();
        nodes.delete(name);
      }
    const fresh = names.filter((name) => !nodes.has(name));
    for (const name of fresh) nodes.set(name, session.watch(`${electionPath}/${name}`, "data", changed));
    // What such a node says may have changed before it was watched.
    if (fresh.length > 0) changed();
  };

  const readList = async () => {
    do {
      reading = "yes";
      // Cut off: the watch calls again when the connection is back.
      const names = await session.list(electionPath).catch(() => undefined);
      if (names && !stopped) follow(names);
    } while (isAgain() && !stopped);
    reading = "no";
  };
  // A function, so that the compiler doesn't take the value of before the await for granted.
  const isAgain = () => reading === "again";

  const listChanged = () => {
    if (reading === "no") void readList();
    else reading = "again";
    changed();
  };

  const stops = [session.watch(statePath, "data", changed), session.watch(electionPath, "children", listChanged)];
  void readList();
  return () => {
    stopped = true;
    for (const stop of [...stops, ...nodes.values()]) stop();
    nodes.clear();
  };
}
