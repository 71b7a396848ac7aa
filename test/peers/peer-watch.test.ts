import { afterEach, describe, expect, it } from "vitest";
import { PeerWatch } from "../../src/peers/peer-watch.ts";
import type { HttpAnswer } from "../../src/world/port.ts";
import { address } from "../sitter/fakes.ts";
import { SimulatedWorld } from "../sitter/simulated-world.ts";

const TWO = address(2);
const THREE = address(3);
const watches: PeerWatch[] = [];

afterEach(() => {
  for (const watch of watches.splice(0)) watch.stop();
});

function watching(world: SimulatedWorld): { watch: PeerWatch; changes: () => number } {
  let changes = 0;
  const watch = new PeerWatch({
    world,
    self: { shard: "1.test", id: address(1).id, run: "run-1" },
    secret: async () => "secret",
    silence: { beatMs: 100, minMs: 800, maxMs: 3_000, deviations: 8 },
    intervalMs: 1_000,
    limitMs: 500,
    onChange: () => changes++,
  });
  watches.push(watch);
  watch.follow([TWO, THREE]);
  return { watch, changes: () => changes };
}

function report(id: string, { healthy = true, silent = [] as { id: string; forMs: number }[] } = {}): HttpAnswer {
  return { status: 200, body: JSON.stringify({ id, run: `run-of-${id}`, postgres: { healthy }, silent }) };
}

function answersAs(world: SimulatedWorld, answers: Record<string, HttpAnswer | "refused" | "silent">): void {
  world.httpAnswer = async ({ host }) => answers[host] ?? "refused";
}

describe("evidence about peers (D2)", () => {
  it("asks the port behind PostgreSQL's", async () => {
    const world = new SimulatedWorld();
    watching(world);
    await world.advance(10);
    expect(world.asked.map(({ host, port }) => `${host}:${port}`)).toEqual(["10.0.0.2:5433", "10.0.0.3:5433"]);
  });

  it("tells what an answering sitter says of its PostgreSQL, and calls only when something is different", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": report(TWO.id), "10.0.0.3": report(THREE.id) });
    const { watch, changes } = watching(world);
    await world.advance(10_000);
    expect(changes()).toBe(2);
    expect(watch.evidence()[TWO.id]).toMatchObject({
      sitter: { kind: "answers", since: 1_000 },
      postgresHealthy: true,
    });
    answersAs(world, { "10.0.0.2": report(TWO.id, { healthy: false }), "10.0.0.3": report(THREE.id) });
    await world.advance(3_000);
    expect(watch.evidence()[TWO.id]?.postgresHealthy).toBe(false);
    expect(changes()).toBe(3);
  });

  it("probes PostgreSQL's port only where the sitter doesn't answer", async () => {
    const world = new SimulatedWorld();
    const probed: string[] = [];
    world.portAnswer = async ({ host, port }) => {
      probed.push(`${host}:${port}`);
      return "open";
    };
    answersAs(world, { "10.0.0.2": "refused", "10.0.0.3": report(THREE.id) });
    const { watch } = watching(world);
    await world.advance(10);
    expect(probed).toEqual(["10.0.0.2:5432"]);
    expect(watch.evidence()[TWO.id]).toMatchObject({ sitter: { kind: "refused" }, postgresPort: { kind: "open" } });
    expect(watch.evidence()[THREE.id]?.postgresPort.kind).toBe("unknown");
  });

  it("counts silence from when it asked, and refusal from when that came", async () => {
    const world = new SimulatedWorld();
    world.httpAnswer = ({ host }) =>
      new Promise((resolve) => {
        world.timers.after(host === TWO.ip ? 500 : 100, () => resolve(host === TWO.ip ? "silent" : "refused"));
      });
    const { watch } = watching(world);
    await world.advance(700);
    expect(watch.evidence()[TWO.id]?.sitter).toEqual({ kind: "silent", since: 1_000 });
    expect(watch.evidence()[THREE.id]?.sitter).toEqual({ kind: "refused", since: 1_100 });
    await world.advance(5_000);
    expect(watch.evidence()[TWO.id]?.sitter.since).toBe(1_000);
  });

  it("names the others for whom that peer is silent, too", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": "silent", "10.0.0.3": report(THREE.id, { silent: [{ id: TWO.id, forMs: 900 }] }) });
    const { watch } = watching(world);
    await world.advance(10);
    expect(watch.evidence()[TWO.id]?.alsoSilentFor).toEqual([THREE.id]);
    expect(watch.evidence()[THREE.id]?.alsoSilentFor).toEqual([]);
  });

  it("tells others of a silent peer, but not of one whose PostgreSQL's port is open", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": "silent", "10.0.0.3": "silent" });
    world.portAnswer = async ({ host }) => (host === TWO.ip ? "silent" : "open");
    const { watch } = watching(world);
    await world.advance(2_000);
    expect(watch.silent()).toEqual([{ id: TWO.id, forMs: 2_000 }]);
  });

  it("takes a sitter of another name at that address for a refusal", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": report(THREE.id), "10.0.0.3": report(THREE.id) });
    const { watch } = watching(world);
    await world.advance(10);
    expect(watch.evidence()[TWO.id]?.sitter.kind).toBe("refused");
  });

  it("looks at once where there is a reason, and some times more shortly after", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": report(TWO.id), "10.0.0.3": report(THREE.id) });
    const { watch } = watching(world);
    await world.advance(1_100);
    const asked = () => world.asked.filter(({ host }) => host === TWO.ip).length;
    const before = asked();
    watch.lookNow(TWO.id);
    await world.advance(550);
    expect(asked() - before).toBe(6);
    // Well again, it is asked every third interval.
    await world.advance(9_000);
    expect(asked() - before).toBe(9);
  });

  it("starts over after this process stood still: what it did not hear meanwhile proves nothing", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": "silent", "10.0.0.3": "refused" });
    const { watch } = watching(world);
    await world.advance(3_000);
    expect(watch.evidence()[TWO.id]?.sitter.since).toBe(1_000);
    world.stall(5_000);
    expect(watch.evidence()[TWO.id]?.sitter).toEqual({ kind: "silent", since: 9_000 });
    expect(watch.evidence()[THREE.id]?.sitter).toEqual({ kind: "refused", since: 9_000 });
    expect(watch.silent()).toEqual([{ id: TWO.id, forMs: 0 }]);
  });

  it("takes no answer that was asked for before it stood still", async () => {
    const world = new SimulatedWorld();
    answersAs(world, { "10.0.0.2": report(TWO.id), "10.0.0.3": report(THREE.id) });
    const { watch } = watching(world);
    await world.advance(900);
    world.httpAnswer = () => new Promise((resolve) => void world.timers.after(500, () => resolve("silent")));
    await world.advance(200);
    world.stall(5_000);
    await world.advance(10);
    expect(watch.evidence()[TWO.id]?.sitter.kind).toBe("answers");
  });

  it("forgets peers that are not followed any more", async () => {
    const world = new SimulatedWorld();
    const { watch } = watching(world);
    await world.advance(10);
    watch.follow([THREE]);
    const before = world.asked.length;
    await world.advance(5_000);
    expect(Object.keys(watch.evidence())).toEqual([THREE.id]);
    expect(world.asked.slice(before).every(({ host }) => host === THREE.ip)).toBe(true);
  });

  it("takes whatever a foreign program answers for an answer, and nothing more", async () => {
    const world = new SimulatedWorld();
    for (const body of ["", "{", "[]", "null", '{"id":3}', '{"id":"x","postgres":{}}', "x".repeat(10_000)]) {
      world.httpAnswer = async () => ({ status: 200, body });
      const { watch } = watching(world);
      await world.advance(10);
      expect(watch.evidence()[TWO.id]).toMatchObject({ sitter: { kind: "answers" }, postgresHealthy: undefined });
    }
  });
});
