// X1: a primary that has lost both its sync and the store closes to clients, sessions opened earlier included, within a bound.

import type { Memory } from "../decision.ts";
import type { Observation, PostgresSettings, PrimaryServer } from "../observation.ts";
import { SOON_MS, type Step } from "../step.ts";

/** undefined: it has one of them, or did a moment ago only. `settings`: what the server is to have otherwise. */
export function isolationStep(
  { obs, memory, server }: { obs: Observation; memory: Memory; server: PrimaryServer },
  settings: PostgresSettings,
): Step | undefined {
  if (memory.isolatedSince === undefined) return undefined;
  const base = { rule: "X1", lookAgainAfterMs: SOON_MS * 4 } as const;
  if (obs.now - memory.isolatedSince < obs.policy.isolationMs)
    return { ...base, because: "neither the sync nor the store can be reached", settings, waitingOn: "either of them" };
  const closing = {
    ...base,
    because: "neither the sync nor the store could be reached for too long: clients are shut out",
    settings: { ...settings, gate: "closed" },
  } as const;
  return server.settings.gate === "closed" && server.clientSessions > 0
    ? { ...closing, action: { kind: "end-clients" } }
    : { ...closing, waitingOn: "the sync, or the store" };
}
