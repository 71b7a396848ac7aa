// A session for as long as a command takes.

import { ManateeError } from "../base/errors.ts";
import type { Session, SessionStatus } from "../coordination/port.ts";
import type { ShardStore } from "../shard/port.ts";
import type { AdminContext } from "./context.ts";
import type { ShardTarget, StoreTarget } from "./target.ts";

/** Of taking leave of the store. */
const CLOSE_LIMIT_MS = 2_000;

/** Everything a command on one shard works with. */
export interface ShardAccess {
  readonly context: AdminContext;
  readonly target: ShardTarget;
  readonly shard: ShardStore;
}

export async function withSession<T>(
  context: AdminContext,
  target: StoreTarget,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const coordination = await context.coordination(target.store);
  const session = coordination.open({ sessionTimeoutMs: target.store.sessionTimeoutMs });
  try {
    await whenConnected(context, session, { timeoutMs: target.timeoutMs, place: coordination.description });
    return await use(session);
  } finally {
    await session.close({ limitMs: CLOSE_LIMIT_MS });
  }
}

export function withShard<T>(
  context: AdminContext,
  target: ShardTarget,
  use: (access: ShardAccess) => Promise<T>,
): Promise<T> {
  return withSession(context, target, (session) =>
    use({ context, target, shard: context.shardStore(session, target.path) }),
  );
}

/** Also after the connection broke, while the session lasts. @throws `ADMIN_STORE_UNREACHABLE` */
export function whenConnected(
  { world }: AdminContext,
  session: Session,
  { timeoutMs, place }: Pick<StoreTarget, "timeoutMs" | "place">,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const look = (status: SessionStatus) => {
      if (status.kind === "connecting") return;
      cancel();
      stop();
      if (status.kind === "connected") resolve();
      else reject(unreachable(place, `its session is ${status.kind}`));
    };
    const stop = session.onStatus(look);
    const cancel = world.timers.after(timeoutMs, () => {
      stop();
      reject(unreachable(place, `no connection within ${timeoutMs / 1000} s`));
    });
    look(session.status);
  });
}

function unreachable(description: string, why: string): ManateeError {
  return new ManateeError({
    code: "ADMIN_STORE_UNREACHABLE",
    message: `${description} is out of reach: ${why}`,
    remedy: "operator",
    hint: "Check the address, and that the store runs and has a majority.",
  });
}
