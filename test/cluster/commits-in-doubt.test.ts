import { describe, expect, it } from "vitest";
import { type Lsn, lsn } from "../../src/base/lsn.ts";
import { isSettled, settledPoint } from "../../src/cluster/commits-in-doubt.ts";
import { type Memory, NEW_MEMORY } from "../../src/cluster/decision.ts";
import type { Observation, PrimaryServer, ServerObservation, Walsender } from "../../src/cluster/observation.ts";
import type { ShardState } from "../../src/cluster/state.ts";
import { peerAddress, peerEntry, shardState, standbyAnnouncement } from "../support/shard-state.ts";

const SYNC = peerAddress(2);
const OTHER = peerAddress(3);
const DOUBT = { timeline: 1, lsn: lsn(0x5000n) };

function walsender(n: number, change: Partial<Walsender> = {}): Walsender {
  const { pgUrl: name, ip: clientAddress } = peerAddress(n);
  const flush = lsn(0x6000n);
  return {
    name,
    pid: n,
    clientAddress,
    state: "streaming",
    sent: flush,
    flush,
    replay: flush,
    syncPriority: 1,
    ...change,
  };
}

function primary(change: Partial<PrimaryServer> = {}): PrimaryServer {
  return {
    kind: "primary",
    since: 0,
    wal: { past: [], timeline: 1, end: lsn(0x6000n) },
    recoveredEnd: lsn(0x3000n),
    commitsWait: true,
    settings: { syncNames: [SYNC.pgUrl], gate: "open", upstream: null },
    walsenders: [walsender(2)],
    marker: undefined,
    cancelledUpTo: DOUBT,
    clientSessions: 0,
    cannotGoOn: undefined,
    ...change,
  };
}

interface Seen {
  readonly server?: ServerObservation;
  readonly state?: Partial<ShardState>;
  readonly incarnation?: string;
  readonly memory?: Partial<Memory>;
}

function settled({ server = primary(), state = {}, incarnation = "data-2", memory = {} }: Seen, before?: typeof DOUBT) {
  const election = [{ peer: SYNC, sequence: 2, announcement: standbyAnnouncement({ incarnation }) }];
  const document = shardState({ async: [peerEntry(3)], ...state });
  const obs = {
    self: peerAddress(1),
    store: { shard: { kind: "document", state: document, version: 7, readAt: 0 }, election },
    postgres: { server },
  } as unknown as Observation;
  return settledPoint(before, obs, { ...NEW_MEMORY, ...memory });
}

const replacing = { candidate: OTHER } as Memory["replacing"];
const both = (lag: Lsn) =>
  primary({
    settings: { syncNames: [OTHER.pgUrl, SYNC.pgUrl], gate: "open", upstream: null },
    walsenders: [walsender(3), walsender(2, { syncPriority: 2, flush: lag })],
  });

describe("commits whose wait for the sync was cancelled (I1)", () => {
  it("are in doubt no more once the sync has flushed up to their end", () => {
    expect(settled({})).toEqual(DOUBT);
    expect(settled({ server: primary({ walsenders: [walsender(2, { flush: DOUBT.lsn })] }) })).toEqual(DOUBT);
  });

  it.each<[string, Seen]>([
    ["the sync is one byte short", { server: primary({ walsenders: [walsender(2, { flush: lsn(0x4fffn) })] }) }],
    ["the sync is away", { server: primary({ walsenders: [] }) }],
    ["only an async has them", { server: primary({ walsenders: [walsender(3, { syncPriority: 0 })] }) }],
    ["the sync only catches up", { server: primary({ walsenders: [walsender(2, { state: "catchup" })] }) }],
    ["its flush is not known", { server: primary({ walsenders: [walsender(2, { flush: undefined })] }) }],
    [
      "it holds WAL of another history, more than it was sent",
      { server: primary({ walsenders: [walsender(2, { sent: lsn(0x5800n) })] }) },
    ],
    ["it has not applied the list yet", { server: primary({ walsenders: [walsender(2, { syncPriority: 0 })] }) }],
    [
      "somebody else bears its name",
      { server: primary({ walsenders: [walsender(2, { clientAddress: "10.0.0.9" })] }) },
    ],
    ["its data is not what the state names", { incarnation: "data-other" }],
    [
      "the list in force is another one",
      { server: primary({ settings: { syncNames: [SYNC.pgUrl, OTHER.pgUrl], gate: "open", upstream: null } }) },
    ],
    ["a second standby bears its name", { server: primary({ walsenders: [walsender(2), walsender(2, { pid: 9 })] }) }],
    ["another sync is named, and the list is not in force", { state: { sync: peerEntry(3), async: [peerEntry(2)] } }],
    [
      "the sync is being replaced, and the old one lacks them (S1)",
      { server: both(lsn(0x4000n)), memory: { replacing } },
    ],
    [
      "nothing is waited for, without a sync (O1)",
      {
        server: primary({ settings: { syncNames: [], gate: "open", upstream: null } }),
        state: { sync: null, async: [], oneNodeWriteMode: true },
      },
    ],
    ["another peer is primary by now", { state: { primary: peerEntry(3), async: [] } }],
    ["the server is on another timeline", { server: primary({ wal: { past: [], timeline: 2, end: lsn(0x6000n) } }) }],
  ])("stay in doubt where %s", (_, seen) => {
    expect(settled(seen)).toBeUndefined();
  });

  it("are settled while the sync is being replaced, where both have them (S1)", () => {
    expect(settled({ server: both(DOUBT.lsn), memory: { replacing } })).toEqual(DOUBT);
  });

  it("stay settled when the sync falls away, or the server does not answer; later ones are not", () => {
    expect(settled({ server: primary({ walsenders: [] }) }, DOUBT)).toEqual(DOUBT);
    expect(settled({ server: { kind: "unresponsive", since: 0, reason: "hangs" } }, DOUBT)).toEqual(DOUBT);
    expect(isSettled(DOUBT, DOUBT)).toBe(true);
    expect(isSettled(DOUBT, { timeline: 1, lsn: lsn(0x5001n) })).toBe(false);
    expect(isSettled(DOUBT, { timeline: 2, lsn: DOUBT.lsn })).toBe(false);
    expect(isSettled(undefined, DOUBT)).toBe(false);
  });

  it("are forgotten with the server", () => {
    expect(settled({ server: { kind: "stopped", since: 0, how: "exited" } }, DOUBT)).toBeUndefined();
    expect(settled({ server: { kind: "starting", since: 0 } }, DOUBT)).toBeUndefined();
  });
});
