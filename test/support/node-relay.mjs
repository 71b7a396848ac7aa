// Reads and writes nodes of a store for a test that runs as another user (the embedded store is its owner's alone). Run in the compiled
// copy: `node node-relay.mjs RUNTIME STORE-CONFIG-AS-JSON`; one JSON request a line on standard input, one answer a line.

import { createInterface } from "node:readline";

const [, , runtime, storeConfig] = process.argv;
const { coordinationOf } = await import(`${runtime}/dist/src/main/coordination-of.js`);
const { realClock, realRandom, realTimers } = await import(`${runtime}/dist/src/world/real/clock.js`);

const nothing = () => undefined;
const silent = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing, child: () => silent };
const store = JSON.parse(storeConfig);
const coordination = coordinationOf(store, { log: silent, clock: realClock, timers: realTimers, random: realRandom });
let session = coordination.open({ sessionTimeoutMs: store.sessionTimeoutMs });

for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...request } = JSON.parse(line);
  try {
    answer({ id, result: await perform(request) });
  } catch (error) {
    answer({ id, error: error.message });
  }
}
await session.close({ limitMs: 1000 });
process.exit(0);

function answer(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function perform({ op, path, data, version }) {
  if (session.status.kind === "expired" || session.status.kind === "closed")
    session = coordination.open({ sessionTimeoutMs: store.sessionTimeoutMs });
  const until = performance.now() + 3000;
  while (session.status.kind !== "connected") {
    if (performance.now() > until) throw new Error("no connection to the store within 3 s");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (op === "list") return session.list(path);
  if (op === "set") {
    const outcome = await session.write([{ kind: "set", path, data: Buffer.from(data, "base64"), version }]);
    if (outcome.kind !== "yes") throw new Error(`${path} was not written: ${outcome.kind}`);
    return null;
  }
  const node = await session.read(path);
  return (
    node && {
      data: Buffer.from(node.data).toString("base64"),
      version: node.version,
      changedWallMs: node.changedWallMs,
    }
  );
}
