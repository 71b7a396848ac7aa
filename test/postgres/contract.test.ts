// The real driver keeps the contract of all drivers.

import { postgresContract } from "../contracts/postgres.ts";
import { postmasterPid, PostgresBench } from "../support/postgres.ts";

postgresContract("real", async () => {
  const bench = await PostgresBench.open();
  return {
    async peer(name) {
      const peer = await bench.peer(name);
      return {
        self: peer.self,
        postgres: peer.postgres,
        async kill() {
          process.kill(await postmasterPid(peer), "SIGKILL");
        },
      };
    },
    wait: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    close: () => bench.cleanUp(),
  };
});
