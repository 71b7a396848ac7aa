// Random stories: scripts in the words of the simulator, so that a counter-example can be pasted into a scenario's file.

import fc from "fast-check";

const PEERS = ["A", "B", "C", "D", "E"];

export interface StoryOptions {
  readonly peersMin?: number;
  readonly peersMax?: number;
  /** Faults in one story at most. */
  readonly faultsMax?: number;
}

/** Moments between two steps of a change, at which a fault has to be survived. */
const MOMENTS = [
  "rule primary S1",
  "does primary write-marker",
  "does primary write",
  "does primary stop",
  "does primary promote",
  "does primary start",
  "promoting primary",
  "provisional",
  "not open primary",
  "rule sync T1",
  "does sync mark-claim",
  "does sync write",
  "does async copy",
  "does deposed renew-incarnation",
  "does deposed keep-fork",
  "does deposed roll-back",
  "job deposed roll-back",
  "job deposed rewind",
  "does deposed write",
];

/** Time between two faults: some steps of the world, or up to some seconds, mostly short; or until one of those moments. */
const pause: fc.Arbitrary<string> = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 40 }).map((n) => `step ${n}`) },
  { weight: 4, arbitrary: fc.constantFrom(...MOMENTS).map((moment) => `wait-for ${moment} within 8s`) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 800 }).map((ms) => `run ${ms}ms`) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 12 }).map((s) => `run ${s}s`) },
);

const tags = fc.constantFrom("none", "nofailover", "nosync", "nosync nofailover", "priority=3", "zone=x", "zone=y");

function faultOf(peers: number): fc.Arbitrary<string> {
  const peer = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...PEERS.slice(0, peers)) },
    { weight: 3, arbitrary: fc.constantFrom("primary", "primary", "sync", "sync", "async") },
  );
  const one = (word: string): fc.Arbitrary<string> => peer.map((a) => `${word} ${a}`);
  const timed = (word: string, max: number): fc.Arbitrary<string> =>
    fc.tuple(peer, fc.integer({ min: 1, max })).map(([a, ms]) => `${word} ${a} ${ms * 100}ms`);
  const link = (word: string): fc.Arbitrary<string> => fc.tuple(peer, peer).map(([a, b]) => `${word} ${a} ${b}`);
  return fc.oneof(
    {
      weight: 8,
      arbitrary: fc.constantFrom(
        "kill-postgres primary",
        "kill-host primary",
        "isolate primary",
        "cut-store primary",
        "kill-sitter primary",
      ),
    },
    { weight: 10, arbitrary: fc.constant("heal") },
    { weight: 3, arbitrary: one("cut-record") },
    { weight: 4, arbitrary: one("drop-wal") },
    { weight: 2, arbitrary: one("pause-replay") },
    { weight: 3, arbitrary: one("resume-replay") },
    { weight: 1, arbitrary: one("rebuild") },
    { weight: 2, arbitrary: fc.tuple(peer, peer).map(([a, b]) => `rebuild ${a} from ${b}`) },
    { weight: 1, arbitrary: fc.tuple(peer, peer).map(([a, b]) => `rebuild ${a} from ${b} full`) },
    { weight: 4, arbitrary: one("kill-postgres") },
    { weight: 3, arbitrary: one("restart-sitter") },
    { weight: 1, arbitrary: one("kill-sitter") },
    { weight: 2, arbitrary: one("kill-host") },
    { weight: 3, arbitrary: one("start-host") },
    { weight: 1, arbitrary: one("pause") },
    { weight: 2, arbitrary: one("resume") },
    { weight: 1, arbitrary: one("pause-postgres") },
    { weight: 2, arbitrary: one("resume-postgres") },
    { weight: 2, arbitrary: one("cut-store") },
    { weight: 3, arbitrary: one("join-store") },
    { weight: 2, arbitrary: one("isolate") },
    { weight: 2, arbitrary: one("expire") },
    { weight: 2, arbitrary: link("break-link") },
    { weight: 3, arbitrary: link("heal-link") },
    { weight: 2, arbitrary: one("lose-answer") },
    { weight: 4, arbitrary: timed("land-late", 60) },
    { weight: 2, arbitrary: one("refuse-write") },
    { weight: 2, arbitrary: one("fail-settings") },
    { weight: 1, arbitrary: timed("delay-writes", 30) },
    { weight: 1, arbitrary: timed("lag-store", 40) },
    { weight: 2, arbitrary: one("promote") },
    { weight: 1, arbitrary: fc.tuple(peer, tags).map(([a, given]) => `tag ${a} ${given}`) },
    { weight: 1, arbitrary: fc.constantFrom("stop-store", "start-store", "start-store expired", "freeze", "unfreeze") },
    { weight: 2, arbitrary: fc.constantFrom("start-store", "unfreeze") },
    { weight: 2, arbitrary: one("crash-in-promotion") },
    { weight: 1, arbitrary: one("break-job") },
    { weight: 1, arbitrary: one("reap") },
    { weight: 4, arbitrary: one("snapshot") },
    { weight: 1, arbitrary: one("fill-disk") },
  );
}

/** One peer's data is lost at most: what two losses do is for O2. */
function loss(peers: number): fc.Arbitrary<readonly string[]> {
  const peer = fc.constantFrom(...PEERS.slice(0, peers));
  const line = fc.tuple(peer, fc.constantFrom("older", "empty")).map(([a, by]) => [`replace-data ${a} ${by}`]);
  return fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: line });
}

/** From a settled shard through faults to their end, when everybody must come back. */
export function arbitraryStory({
  peersMin = 2,
  peersMax = 5,
  faultsMax = 14,
}: StoryOptions = {}): fc.Arbitrary<readonly string[]> {
  const some = [2, 3, 3, 3, 3, 3, 4, 4, 5].filter((peers) => peers >= peersMin && peers <= peersMax);
  return fc.constantFrom(...(some.length > 0 ? some : [peersMin])).chain((peers) =>
    fc
      .record({
        seed: fc.integer({ min: 1, max: 100_000 }),
        policies: fc.constantFrom(
          [],
          [],
          [],
          ["policy takeoverAlone true"],
          ["policy forksKeptMax 1"],
          ["policy takeoversPerHourMax 2"],
        ),
        writer: fc.constantFrom("writer 150ms", "writer 30ms"),
        before: fc.array(fc.tuple(pause, faultOf(peers)), { maxLength: faultsMax, size: "max" }),
        loss: loss(peers),
        after: fc.array(fc.tuple(pause, faultOf(peers)), { maxLength: Math.floor(faultsMax / 2), size: "max" }),
        last: pause,
      })
      .map(({ seed, policies, writer, before, loss, after, last }) => [
        `seed ${seed}`,
        ...(peers === 1 ? ["policy oneNodeWriteMode true", "shard 1", "run 5s"] : [`shard ${peers}`]),
        ...policies,
        writer,
        ...before.flat(),
        ...loss,
        ...after.flat(),
        last,
        "heal",
        "unfreeze",
        "run 3s",
        "writer off",
        "settle-or-operator 120s",
      ]),
  );
}
