// What is meant by commands that act as this host's peer: its sitter's file names the shard, and where the shard's secrets and the peer's own data lie.

import type { SitterConfig } from "../config/types.ts";
import type { AdminContext } from "./context.ts";
import { type ShardTarget, shardTarget, type TargetOptions } from "./target.ts";
import { WrongUse } from "./wrong-use.ts";

export interface PeerTarget extends ShardTarget {
  readonly config: SitterConfig;
}

export async function peerTarget(context: AdminContext, given: TargetOptions): Promise<PeerTarget> {
  const file = configFile(context, given);
  if (file === undefined)
    throw new WrongUse("option is required: --file (or --config): the sitter's configuration of this host's peer");
  const target = await shardTarget(context, { ...given, file });
  return { ...target, config: target.config as SitterConfig };
}

/** -f, -c, else the environment's. */
export function configFile(
  { env }: AdminContext,
  { file, config }: Pick<TargetOptions, "file" | "config">,
): string | undefined {
  return file ?? config ?? (env["MANATEE_SITTER_CONFIG"] || undefined);
}
