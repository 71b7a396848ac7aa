// Mistakes planted around `decide`, to show that the checkers see them: each leaves out one precaution of the protocol, by lying to
// it about one thing or by changing one thing that it says.

import { ZERO_LSN } from "../../src/base/lsn.ts";
import type { Decision, Memory } from "../../src/cluster/decision.ts";
import type { Observation, PostgresSettings } from "../../src/cluster/observation.ts";
import type { ShardState } from "../../src/cluster/state.ts";
import type { Decide } from "../../simulation/world/types.ts";

export type Plant = (decide: Decide) => Decide;

/** Changes what is decided. */
function changing(change: (decision: Decision, observation: Observation) => Decision): Plant {
  return (decide) => (observation, memory) => change(decide(observation, memory), observation);
}

/** Changes what is seen. */
function lying(lie: (observation: Observation, memory: Memory) => Observation): Plant {
  return (decide) => (observation, memory) => decide(lie(observation, memory), memory);
}

function withSettings(decision: Decision, change: (settings: PostgresSettings) => PostgresSettings): Decision {
  const { settings, action } = decision;
  return {
    ...decision,
    settings: settings && change(settings),
    action: action?.kind === "start" ? { ...action, settings: change(action.settings) } : action,
  };
}

function withServer(
  observation: Observation,
  change: (server: Observation["postgres"]["server"]) => Observation["postgres"]["server"],
): Observation {
  const { postgres } = observation;
  return { ...observation, postgres: { ...postgres, server: change(postgres.server) } };
}

function withState(observation: Observation, change: (state: ShardState) => ShardState): Observation {
  const { store } = observation;
  const { shard } = store;
  if (shard.kind !== "document") return observation;
  return { ...observation, store: { ...store, shard: { ...shard, state: change(shard.state) } } };
}

export const BUGS: Readonly<Record<string, Plant>> = {
  "the gate is open from the start (P1)": changing((decision) =>
    withSettings(decision, (settings) => ({ ...settings, gate: "open" })),
  ),

  "commits wait for nobody (I1)": (decide) => (observation, memory) => {
    const { server } = observation.postgres;
    const { shard } = observation.store;
    const sync = shard.kind === "document" ? shard.state.sync?.pgUrl : undefined;
    if (server.kind !== "primary" || sync === undefined) return decide(observation, memory);
    const walsenders = server.walsenders.map((sender) => ({ ...sender, syncPriority: sender.name === sync ? 1 : 0 }));
    const seen = withServer(observation, () => ({
      ...server,
      walsenders,
      settings: { ...server.settings, syncNames: [sync] },
    }));
    return withSettings(decide(seen, memory), (settings) => ({ ...settings, syncNames: [] }));
  },

  "standbys are believed to have flushed all (S1, T1, P1)": lying((observation) =>
    withServer(observation, (server) => {
      if (server.kind !== "primary" && server.kind !== "standby") return server;
      const all = { sent: server.wal.end, flush: server.wal.end };
      return { ...server, walsenders: server.walsenders.map((sender) => ({ ...sender, ...all })) };
    }),
  ),

  "T1 goes on receiving (T1)": (decide) => {
    const upstreams = new Map<string, PostgresSettings["upstream"]>();
    return (observation, memory) => {
      const { server } = observation.postgres;
      if (server.kind === "standby" && server.settings.upstream)
        upstreams.set(observation.self.id, server.settings.upstream);
      const upstream = upstreams.get(observation.self.id);
      const claiming = memory.takingOver !== undefined && server.kind === "standby";
      const seen = claiming
        ? withServer(observation, () => ({
            ...server,
            receiver: { kind: "none" as const },
            settings: { ...server.settings, upstream: null },
          }))
        : observation;
      const decision = decide(seen, memory);
      return decision.rule === "T1" && upstream && server.kind === "standby"
        ? withSettings(decision, (settings) => ({ ...settings, upstream }))
        : decision;
    };
  },

  "any data will do for whoever is named (T1, resume)": lying((observation) => {
    const { postgres, store, self } = observation;
    const { data } = postgres;
    if (data.kind !== "present" || !data.mark || store.shard.kind !== "document") return observation;
    const { state } = store.shard;
    const entry = [state.primary, state.sync].find((peer) => peer?.id === self.id);
    if (entry?.incarnation === undefined) return observation;
    const mark = { ...data.mark, incarnation: entry.incarnation };
    return { ...observation, postgres: { ...postgres, data: { ...data, mark } } };
  }),

  "a fork is believed to be kept (I5)": lying((observation, memory) => ({
    ...observation,
    postgres: {
      ...observation.postgres,
      forks: memory.rejoining ? [...observation.postgres.forks, memory.rejoining.fork] : observation.postgres.forks,
    },
  })),

  "after a crash inside the promotion the server is started bare (resume or promote)": changing(
    (decision, { postgres, store, self }) => {
      const { action } = decision;
      const named = store.shard.kind === "document" && store.shard.state.primary.id === self.id;
      return named && action?.kind === "start" && postgres.data.kind === "present" && !postgres.data.standbySignal
        ? { ...decision, action: { ...action, as: "primary" } }
        : decision;
    },
  ),

  "who leaves the role requires nobody before it is stopped (I1)": changing((decision, { postgres, store, self }) => {
    const { server } = postgres;
    const left = store.shard.kind === "document" && store.shard.state.primary.id !== self.id;
    return left && server.kind === "primary" && decision.action?.kind === "stop"
      ? { ...decision, settings: { ...server.settings, syncNames: [] } }
      : decision;
  }),

  "a list is believed to be in force as soon as it is written (S1)": lying((observation) =>
    withServer(observation, (server) => {
      if (server.kind !== "primary") return server;
      const { syncNames } = server.settings;
      const syncPriority = ({ name }: { name: string }): number => syncNames.indexOf(name) + 1;
      const walsenders = server.walsenders.map((sender) => ({ ...sender, syncPriority: syncPriority(sender) }));
      return { ...server, walsenders };
    }),
  ),

  "the first async takes itself for the sync (T1)": lying((observation) =>
    withState(observation, (state) =>
      state.sync && state.async[0]?.id === observation.self.id
        ? { ...state, sync: state.async[0], async: state.async.slice(1) }
        : state,
    ),
  ),

  "a claim is sent without a mark of it (T1, FENCE)": lying((observation, memory) => {
    const { postgres, store } = observation;
    const { data } = postgres;
    if (!memory.takingOver || data.kind !== "present" || !data.mark || store.shard.kind !== "document")
      return observation;
    const mark = { ...data.mark, claim: { version: store.shard.version } };
    return { ...observation, postgres: { ...postgres, data: { ...data, mark } } };
  }),

  "whatever is copied anew is believed to be elsewhere (R1.9, I5)": (decide) => (observation, memory) => {
    const { rejoining } = memory;
    const leaves = rejoining !== undefined && observation.postgres.server.kind === "stopped";
    return decide(observation, leaves ? { ...memory, rejoining: { ...rejoining, why: "wal-gone" } } : memory);
  },

  "where the generation before ended counts for nothing (T1)": lying((observation) =>
    withState(observation, (state) => ({ ...state, initWal: ZERO_LSN, initTimeline: 1 })),
  ),

  "a provisional generation is served like any other (T1, P1)": lying((observation) =>
    withState(observation, (state) => ({ ...state, provisional: false })),
  ),

  "S1 requires one standby only (S1)": (decide) => (observation, memory) => {
    const both = memory.replacing !== undefined;
    const { server } = observation.postgres;
    const seen =
      both && server.kind === "primary" && server.settings.syncNames.length === 1
        ? withServer(observation, () => pretendBoth(memory, server))
        : observation;
    return changeToOld(decide(seen, memory));
  },
};

type PrimaryServer = Extract<Observation["postgres"]["server"], { kind: "primary" }>;

/** The server as it would look with both required. */
function pretendBoth(memory: Memory, server: PrimaryServer): PrimaryServer {
  const candidate = memory.replacing?.candidate.pgUrl;
  const old = server.settings.syncNames[0];
  if (candidate === undefined || old === undefined || old === candidate) return server;
  const priority = (name: string): number => (name === candidate ? 1 : name === old ? 2 : 0);
  return {
    ...server,
    settings: { ...server.settings, syncNames: [candidate, old] },
    walsenders: server.walsenders.map((sender) => ({ ...sender, syncPriority: priority(sender.name) })),
  };
}

function changeToOld(decision: Decision): Decision {
  return withSettings(decision, (settings) =>
    settings.syncNames.length === 2 ? { ...settings, syncNames: settings.syncNames.slice(1) } : settings,
  );
}
