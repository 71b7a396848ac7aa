// Every shard that the store knows: the children of /manatee.

import type { Session } from "../coordination/port.ts";
import { type ShardAccess } from "./connect.ts";
import type { AdminContext } from "./context.ts";
import { type Picture, takePicture } from "./picture.ts";
import type { StoreTarget } from "./target.ts";

const SHARDS_FOLDER = "/manatee";

export async function shardNames(session: Session): Promise<readonly string[]> {
  return [...((await session.list(SHARDS_FOLDER)) ?? [])].sort();
}

export async function pictureOf(
  context: AdminContext,
  session: Session,
  target: StoreTarget,
  shard: string,
): Promise<Picture> {
  const path = `${SHARDS_FOLDER}/${shard}`;
  const access: ShardAccess = { context, target: { ...target, shard, path }, shard: context.shardStore(session, path) };
  return takePicture(access);
}
