import { describe, expect, it } from "vitest";
import type { Observation, Receiver, Walsender } from "../../src/cluster/observation.ts";
import { doubtsAbout, otherPeers } from "../../src/sitter/doubts.ts";
import { registrarPath } from "../../src/shard/registrar-path.ts";
import { address, ANNOUNCEMENT, entry, OPEN, OTHER, primaryServer, SELF, shardState } from "./fakes.ts";

const THIRD = address(3);

function observed({
  election = [SELF, OTHER, THIRD],
  walsenders = [] as string[],
  receiver = undefined as Receiver | undefined,
} = {}): Observation {
  const sender = (name: string) => ({ name }) as Walsender;
  const primary = { ...primaryServer(), walsenders: walsenders.map(sender) };
  const server = receiver ? { ...primary, kind: "standby" as const, receiver, settings: OPEN } : primary;
  return {
    self: SELF,
    store: {
      shard: { kind: "document", state: shardState({ async: [entry(THIRD)] }), version: 1, readAt: 0 },
      election: election.map((peer, sequence) => ({ peer, sequence, announcement: ANNOUNCEMENT })),
    },
    postgres: { server },
  } as unknown as Observation;
}

function from(port: number): Receiver {
  return { kind: "streaming", pid: 1, from: { host: OTHER.ip, port }, silentMs: 0 };
}

describe("reasons to look at a peer at once (D2)", () => {
  it("are none where nothing is different", () => {
    const same = observed({ walsenders: [OTHER.pgUrl] });
    expect(doubtsAbout(same, same)).toEqual([]);
  });

  it("are an election node that vanished, and a walsender that did", () => {
    expect(doubtsAbout(observed(), observed({ election: [SELF, OTHER] }))).toEqual([THIRD.id]);
    expect(
      doubtsAbout(observed({ walsenders: [OTHER.pgUrl, THIRD.pgUrl] }), observed({ walsenders: [THIRD.pgUrl] })),
    ).toEqual([OTHER.id]);
  });

  it("are a connection to the upstream that broke, told by address and port", () => {
    expect(doubtsAbout(observed({ receiver: from(5432) }), observed({ receiver: { kind: "none" } }))).toEqual([
      OTHER.id,
    ]);
    expect(
      doubtsAbout(observed({ receiver: from(5432) }), observed({ receiver: { kind: "connecting", pid: 2 } })),
    ).toEqual([OTHER.id]);
    expect(doubtsAbout(observed({ receiver: from(9999) }), observed({ receiver: { kind: "none" } }))).toEqual([]);
  });

  it("are none because of a walsender that is no peer's (a backup, another tool)", () => {
    expect(doubtsAbout(observed({ walsenders: ["pg_receivewal"] }), observed())).toEqual([]);
  });

  it("concern every peer of state and election but this one, each once", () => {
    const fourth = address(4);
    expect(otherPeers(observed({ election: [SELF, fourth] })).map(({ id }) => id)).toEqual([
      OTHER.id,
      THIRD.id,
      fourth.id,
    ]);
  });
});

describe("the registrar node's path", () => {
  it("is the shard's name reversed, as the original's DNS servers read it", () => {
    expect(registrarPath("1.moray.bh1.joyent.us")).toBe("/us/joyent/bh1/moray/1/pg");
    expect(registrarPath("ledger")).toBe("/ledger/pg");
  });
});
