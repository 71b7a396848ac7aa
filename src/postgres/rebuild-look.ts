// What a rebuild of this host's peer would find. Looks only.

import type { Bytes } from "../base/units.ts";
import type { PeerAddress } from "../cluster/state.ts";
import type { Known, LocalFacts } from "./rebuild-plan.ts";

/** Neither call rejects: what can't be known says why. */
export interface RebuildLook {
  local(): Promise<LocalFacts>;
  /** Of all databases of that peer. */
  sourceBytes(from: PeerAddress): Promise<Known<Bytes>>;
}
