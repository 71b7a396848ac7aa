import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LINE_LENGTH_MAX } from "../../src/peers/wire.ts";
import { address } from "../sitter/fakes.ts";
import { SimulatedWorld } from "../sitter/simulated-world.ts";
import { type Host, SILENCE, SimulatedNetwork, WELL } from "./simulated-network.ts";

const [A, B, C] = [address(1), address(2), address(3)] as const;
let world: SimulatedWorld;
let network: SimulatedNetwork;
let a: Host;
let b: Host;
let c: Host;

beforeEach(async () => {
  world = new SimulatedWorld();
  network = new SimulatedNetwork(world);
  a = network.add(A);
  b = network.add(B);
  c = network.add(C);
  network.join();
  await world.advance(1_000);
});

afterEach(() => network.stop());

const seenBy = (witness: Host, of: Host) => witness.watch.evidence()[of.address.id];
const warnings = () => world.lines.filter(({ level }) => level === "warn");

/** Numbers in [0, 1) that look random, the same in each run. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

describe("the stream between two sitters (D2)", () => {
  it("comes up once between each two, and asks nothing over HTTP afterwards", async () => {
    expect(world.logged("stream to peer is up")).toHaveLength(6);
    for (const [one, other] of [
      [a, b],
      [b, a],
      [c, a],
    ] as const)
      expect(seenBy(one, other)).toMatchObject({
        sitter: { kind: "answers" },
        postgresHealthy: true,
        silenceLimitMs: SILENCE.minMs,
      });
    expect(warnings()).toEqual([]);
  });

  it("tells at once what others may act on: that PostgreSQL is dead, that a generation is given up", async () => {
    const before = b.changes;
    a.watch.say({ ...WELL, postgresHealthy: false, abdicates: 7 });
    await world.advance(5);
    expect(seenBy(b, a)).toMatchObject({ postgresHealthy: false, abdicates: 7 });
    expect(b.changes).toBe(before + 1);
    a.watch.say(WELL);
    await world.advance(5);
    expect(seenBy(b, a)?.abdicates).toBeUndefined();
  });

  it("keeps positions of WAL for the next beat", async () => {
    const before = b.changes;
    for (let n = 0; n < 50; n++) {
      a.watch.say({ ...WELL, wal: `1@0/300000${n}` });
      await world.advance(20);
    }
    expect(b.changes).toBe(before);
  });

  it("D2: a host that vanishes is silent for both others within a second, and each knows that of the other", async () => {
    network.isolate(A.ip);
    const since = world.clock.now();
    await world.until("both agree", () =>
      [b, c].every((witness) => (seenBy(witness, a)?.alsoSilentFor.length ?? 0) > 0),
    );
    expect(world.clock.now() - since).toBeLessThan(1_000);
    expect(seenBy(b, a)).toMatchObject({ sitter: { kind: "silent" }, postgresPort: { kind: "silent" } });
    expect(b.watch.silent().map(({ id }) => id)).toEqual([A.id]);
  });

  it("D2: so is one that freezes, though its kernel goes on; thawed, it is heard again", async () => {
    network.frozen.add(A.ip);
    await world.until("both agree", () => (seenBy(b, a)?.alsoSilentFor.length ?? 0) > 0);
    network.heal();
    await world.until("it is heard", () => [b, c].every((witness) => seenBy(witness, a)?.sitter.kind === "answers"));
    await world.until("nobody misses it", () => b.watch.silent().length + c.watch.silent().length === 0);
  });

  it("D2: a link that is cut one way is silent at both its ends, and for nobody else", async () => {
    network.cut.add(`${A.ip}>${B.ip}`);
    await world.advance(2_000);
    expect(b.watch.silent().map(({ id }) => id)).toEqual([A.id]);
    expect(a.watch.silent().map(({ id }) => id)).toEqual([B.id]);
    expect(c.watch.silent()).toEqual([]);
    expect(seenBy(b, a)?.alsoSilentFor).toEqual([]);
    network.heal();
    await world.until("both hear each other", () => a.watch.silent().length + b.watch.silent().length === 0);
  });

  it("D2: a process that ends is refused a moment later, and a third peer is told to look", async () => {
    network.kill(A.ip);
    await world.advance(150);
    for (const witness of [b, c])
      expect(seenBy(witness, a)).toMatchObject({ sitter: { kind: "refused" }, postgresPort: { kind: "refused" } });
    expect(seenBy(b, a)?.alsoSilentFor).toEqual([]);
  });

  it("D2: what a witness said before it fell silent itself does not count", async () => {
    network.cut.add(`${A.ip}>${C.ip}`).add(`${C.ip}>${A.ip}`);
    await world.until("C misses A", () => c.watch.silent().length > 0);
    await world.advance(100);
    network.frozen.add(C.ip);
    network.cut.add(`${A.ip}>${B.ip}`).add(`${B.ip}>${A.ip}`);
    await world.advance(1_500);
    expect(b.watch.silent().map(({ id }) => id)).toContain(A.id);
    expect(seenBy(b, a)?.alsoSilentFor).toEqual([]);
  });

  it("D2: learns an uneven link, and takes nobody on it for silent in an hour", async () => {
    const random = noise(7);
    network.delayMs = () => 1 + random() * 200;
    await world.advance(20_000);
    expect(seenBy(b, a)?.silenceLimitMs).toBeGreaterThan(SILENCE.minMs);
    let missed = 0;
    for (let minute = 0; minute < 60; minute++) {
      // A lost packet, or an agent that stands still for a while.
      network.frozen.add(A.ip);
      await world.advance(400);
      network.heal();
      await world.advance(1_600);
      missed += b.watch.silent().length + c.watch.silent().length;
    }
    expect(missed).toBe(0);
  });

  it("starts over after this process stood still", async () => {
    world.stall(5_000);
    expect(b.watch.silent()).toEqual([]);
    expect(seenBy(b, a)?.sitter.kind).toBe("answers");
    await world.advance(500);
    expect(b.watch.silent()).toEqual([]);
  });
});

describe("who may speak", () => {
  it("leaves a peer with another password to questions over HTTP, and says why, once", async () => {
    const d = network.add(address(4), { secret: "another" });
    network.join();
    await world.advance(10_000);
    expect(seenBy(a, d)).toMatchObject({ sitter: { kind: "answers" }, postgresHealthy: true });
    expect(seenBy(a, d)?.silenceLimitMs).toBeUndefined();
    const said = warnings().filter(({ message }) => message === `the stream to ${address(4).id} does not come about`);
    expect(said.map(({ fields }) => fields["because"])).toEqual(
      Array.from({ length: 3 }, () => expect.stringContaining("replication password")),
    );
  });

  it("refuses whoever does not begin with a greeting, sends too much, or waits too long", async () => {
    for (const text of ["hello\n", "{}\n", "x".repeat(LINE_LENGTH_MAX + 1), '{"version":1', "\u0000\n"]) {
      let ended: string | undefined;
      const stream = network.open("10.9.9.9", B.ip);
      stream.listen({ onText: () => {}, onEnd: (how) => (ended = how) });
      await world.advance(1);
      stream.write(text);
      await world.until(`${text.slice(0, 12)} is refused`, () => ended !== undefined);
    }
    expect(seenBy(b, a)?.sitter.kind).toBe("answers");
    expect(warnings().length).toBeGreaterThan(2);
  });

  it("takes nothing that was overheard: not the greeting of an earlier stream, nor its messages", async () => {
    const overheard = network.wire.filter(({ from }) => from === A.ip).map(({ text }) => text);
    let answers = 0;
    let ended: string | undefined;
    const stream = network.open("10.9.9.9", B.ip);
    stream.listen({ onText: () => answers++, onEnd: (how) => (ended = how) });
    for (const text of overheard.slice(0, 20)) stream.write(text);
    await world.until("it is refused", () => ended !== undefined);
    expect(answers).toBeLessThan(2);
    expect(world.logged("stream to peer is up")).toHaveLength(6);
  });

  it("ends a stream into which a message was put, or put again, and opens another", async () => {
    const sealed = network.wire.findLast(({ from, text }) => from === A.ip && text.includes('"beat"'));
    sealed?.stream.write(sealed.text);
    await world.advance(50);
    expect(warnings().map(({ fields }) => fields["because"])).toEqual([
      "a message is not sealed by the peer, or not the next one",
    ]);
    await world.until("there is a new stream", () => world.logged("stream to peer is up").length > 6);
    expect(seenBy(b, a)?.sitter.kind).toBe("answers");
  });
});
