// The original's way: the server connects to an address and sends the newest snapshot's bare stream. Which addresses may be named is the service's matter.

import { ManateeError } from "../base/errors.ts";
import type { Ms } from "../base/units.ts";
import type { Transport } from "../world/port.ts";
import type { Transfer } from "./transfer.ts";
import type { JobView } from "./wire.ts";

const CONNECT_LIMIT_MS: Ms = 10_000;

export interface PushTarget {
  readonly host: string;
  readonly port: number;
  /** The receiver's name of it: told back, nothing else. */
  readonly dataset: string;
}

/** Never rejects: the transfer tells how it ended. */
export async function push(
  transfer: Transfer,
  { host, port }: PushTarget,
  { transport, stallLimitMs }: { transport: Transport; stallLimitMs: Ms },
): Promise<void> {
  try {
    await transfer.ready();
    await transport.push({
      host,
      port,
      stream: transfer.stream(),
      connectLimitMs: CONNECT_LIMIT_MS,
      stallLimitMs,
      signal: transfer.signal,
    });
    await transfer.end();
  } catch (cause) {
    await transfer.end(
      cause instanceof ManateeError
        ? cause
        : new ManateeError({
            code: "BACKUP_PUSH_FAILED",
            message: `cannot send to ${host}:${port}`,
            remedy: "retry",
            hint: "See whether the receiver still listens there, and its log.",
            cause,
          }),
    );
  }
}

/** As the original tells a job. */
export function jobOf(transfer: Transfer, { host, port, dataset }: PushTarget): JobView {
  const { uuid, snapshot, sentBytes, expectedBytes, error } = transfer.view();
  const { guid } = transfer.options.snapshot;
  const done = { queued: false, sending: 0, done: true, failed: "failed" } as const;
  return {
    uuid,
    host,
    port,
    dataset,
    done: done[transfer.state],
    ...(expectedBytes === null ? {} : { size: String(expectedBytes) }),
    completed: String(sentBytes),
    snapshot,
    guid,
    error,
  };
}
