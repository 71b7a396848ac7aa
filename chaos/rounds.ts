// A run: rounds of episodes, and the verdict on each.

import { seconds } from "../bench/lib/statistics.ts";
import { longestGap } from "../test/support/history.ts";
import type { TestShard } from "../test/support/shard.ts";
import { limited } from "../test/support/writer.ts";
import { anomaliesOf, type Lists } from "./anomalies.ts";
import { befall, type Scene } from "./faults.ts";
import { CREATE_LISTS, type Isolation, LISTS_TABLE, type ListWorkload, startListAppend } from "./list-append.ts";
import { makeNoise } from "./noise.ts";
import type { RoundResult, RunResult } from "./report.ts";
import { type Episode, episodes, type Kind, KINDS } from "./schedule.ts";

export interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly peers: number;
  readonly only: readonly Kind[];
  readonly isolation: Isolation;
  readonly calm: boolean;
  readonly noise: boolean;
  readonly plant?: "local-commit";
  readonly report?: string;
}

/** Between two checks. */
const EPISODES_A_ROUND = 4;
/** A calm episode: nothing befalls the shard for so long. */
const CALM_MS = 10_000;
const FINAL_READ_LIMIT_MS = 60_000;

export class Run {
  readonly #scene: Scene;
  readonly #options: Options;
  readonly #interrupted: () => boolean;
  readonly #beganAt = performance.now();

  constructor(scene: Scene, options: Options, interrupted: () => boolean) {
    this.#scene = scene;
    this.#options = options;
    this.#interrupted = interrupted;
  }

  /** Ends with the first round that finds something. */
  async whole(): Promise<RunResult> {
    const { minutes, seed, only } = this.#options;
    const source = episodes(seed, only.length === 0 ? KINDS : only);
    const startedWallMs = Date.now();
    const rounds: RoundResult[] = [];
    const noise = this.#options.noise ? makeNoise(this.#scene.shard.peers, this.#scene.random) : undefined;
    while (performance.now() - this.#beganAt < minutes * 60_000 && !this.#interrupted()) {
      const round = await this.#round(source, rounds.length + 1);
      rounds.push(round);
      this.#tell(
        `round ${round.number}: ${round.inserts} inserts and ${round.transactions} transactions acknowledged, ${round.problems.length === 0 ? "nothing found" : `FOUND:\n${round.problems.join("\n")}`}`,
      );
      if (round.problems.length > 0) break;
    }
    await noise?.stop();
    return { options: this.#options, startedWallMs, lastedMs: performance.now() - this.#beganAt, rounds };
  }

  async #round(source: Generator<Episode, never>, number: number): Promise<RoundResult> {
    const { shard } = this.#scene;
    const before = (await shard.state()).generation;
    const faults: Kind[] = [];
    const gapsMs: number[] = [];
    const problems: string[] = [];
    await shard.writer({ clients: 2, readEveryMs: 500, spread: true, attemptLimitMs: this.#attemptLimitMs });
    const lists = await this.#startLists(number);
    try {
      for (let i = 0; i < EPISODES_A_ROUND && !this.#interrupted(); i++) {
        const episode = source.next().value;
        gapsMs.push(await this.#episode(episode));
        if (!this.#options.calm) faults.push(...episode.faults.map(({ kind }) => kind));
      }
      await shard.waitForChain();
    } catch (error) {
      problems.push((error as Error).message);
    }
    await lists.stop();
    if (problems.length === 0) problems.push(...(await this.#judge(lists)));
    const inserts = shard.history.acknowledged();
    const after = await shard.state();
    if (this.#options.calm && after.generation !== before)
      problems.push(`generation ${before} became ${after.generation}, though nothing had befallen the shard`);
    if (problems.length === 0) {
      await this.#dropForks();
      await shard.beginAnew();
      await shard.query(await shard.primary(), `TRUNCATE ${LISTS_TABLE}`);
    }
    return {
      number,
      faults,
      generations: after.generation - before,
      inserts,
      transactions: lists.transactions.filter(({ outcome }) => outcome === "ok").length,
      gapsMs,
      problems,
    };
  }

  /** The longest time without an acknowledged insert, in milliseconds. */
  async #episode(episode: Episode): Promise<number> {
    const { shard } = this.#scene;
    const from = shard.history.now();
    this.#tell(`episode ${episode.number}${this.#options.calm ? ", calm" : ""}`);
    if (this.#options.calm) await shard.waitFor("the time is over", () => shard.history.now() - from > CALM_MS);
    else await befall(this.#scene, episode, (line) => this.#tell(line));
    if (episode.wait) await shard.waitForChain();
    await shard.waitForWrites(20);
    const gapMs = longestGap(shard.history.operations, { from })?.lengthMs ?? 0;
    this.#tell(
      `  ${seconds(gapMs)} without writes; ${seconds(shard.history.now() - from)} until ${episode.wait ? "all were back" : "writes went on"}`,
    );
    return gapMs;
  }

  async #startLists(round: number): Promise<ListWorkload> {
    const { shard } = this.#scene;
    const { seed, isolation, plant } = this.#options;
    await shard.query(await shard.primary(), CREATE_LISTS);
    return startListAppend({
      endpoints: shard.peers.map(({ ip, port }) => ({ host: ip, port })),
      credentials: shard.credentials,
      clients: 3,
      pauseMs: 20,
      spread: true,
      attemptLimitMs: this.#attemptLimitMs,
      isolation,
      seed: seed + 1000 * round,
      ...(plant === "local-commit" && { prelude: "SET synchronous_commit = local" }),
    });
  }

  /** A connection by password takes some eight ways over the network and back. */
  get #attemptLimitMs(): number {
    return this.#options.noise ? 5_000 : 1_000;
  }

  async #judge(lists: ListWorkload): Promise<readonly string[]> {
    const { shard } = this.#scene;
    const problems: string[] = [];
    try {
      // Waits until every standby has replayed all, and stops the writers.
      await shard.check();
    } catch (error) {
      problems.push((error as Error).message);
    }
    for (const peer of shard.peers) {
      const anomalies = anomaliesOf(lists.transactions, await limited(finalLists(shard, peer), FINAL_READ_LIMIT_MS));
      problems.push(...anomalies.slice(0, 10).map(({ kind, message }) => `${peer.name}: ${kind}: ${message}`));
    }
    return problems;
  }

  /** As an operator does who has looked at them. */
  async #dropForks(): Promise<void> {
    const { shard } = this.#scene;
    for (const peer of shard.peers) {
      const { status, stdout, stderr } = await shard.adm("diverged", "-f", peer.configFile, "-o", "json");
      if (status !== 0) throw new Error(`manatee-adm diverged failed: ${stderr}`);
      for (const { name } of JSON.parse(stdout) as readonly { name: string }[]) {
        const dropped = await shard.adm("diverged", "-f", peer.configFile, "--drop", name, "-y");
        if (dropped.status !== 0) throw new Error(`manatee-adm diverged --drop ${name} failed: ${dropped.stderr}`);
      }
    }
  }

  #tell(line: string): void {
    const minutes = (performance.now() - this.#beganAt) / 60_000;
    console.error(`${minutes.toFixed(1).padStart(5)} min  ${line}`);
  }
}

async function finalLists(shard: TestShard, peer: Parameters<TestShard["query"]>[0]): Promise<Lists> {
  const rows = await shard.query<{ key: number; values: number[] }>(peer, `SELECT key, values FROM ${LISTS_TABLE}`);
  return new Map(rows.map(({ key, values }) => [key, values]));
}
