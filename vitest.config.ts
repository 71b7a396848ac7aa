// The layers of the tests (CONTRIBUTING.md says what belongs where). `npm test` runs them one after the other.

import { defineConfig } from "vitest/config";

/** Without any process or server of ours; in memory and under simulated time, many seeds. */
const simulation = ["test/simulation/**/*.test.ts"];
/** One driver against the real thing: a ZooKeeper, a PostgreSQL, the embedded store's socket. */
const drivers = [
  "test/contracts/**/*.test.ts",
  "test/coordination/{zookeeper,local}/**/*.test.ts",
  "test/coordination/*/contract.test.ts",
  "test/postgres/**/*.test.ts",
  "test/storage/**/*.test.ts",
  "test/world/namespaces.test.ts",
];
/** Whole shards of real processes. */
const integration = ["test/integration/**/*.test.ts"];

/** Whole shards whose peers are hosts of their own; in a network of its own, see scripts/test.mjs. */
const chaos = ["test/chaos/**/*.test.ts"];

const full = process.env["MANATEE_TEST_FULL"] === "1";

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "fast",
          include: ["test/**/*.test.ts"],
          exclude: [...simulation, ...drivers, ...integration, ...chaos],
          testTimeout: 20_000,
        },
      },
      {
        test: { name: "simulation", include: simulation, testTimeout: full ? 1_800_000 : 180_000, hookTimeout: 60_000 },
      },
      {
        test: {
          name: "drivers",
          include: drivers,
          testTimeout: full ? 600_000 : 120_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "integration",
          include: integration,
          globalSetup: ["test/integration/global-setup.ts"],
          testTimeout: full ? 900_000 : 480_000,
          hookTimeout: 180_000,
          // A shard mostly waits; each story owns its ports, folder and store.
          maxWorkers: 2,
        },
      },
      {
        test: {
          name: "chaos",
          include: chaos,
          globalSetup: ["test/integration/global-setup.ts"],
          testTimeout: full ? 900_000 : 240_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
