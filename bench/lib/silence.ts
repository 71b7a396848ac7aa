// Makes a port silent, as a host is that vanished from the network: on one machine, the kernel would refuse a connection to a dead
// process at once, which is evidence. Here somebody listens whose queue is full, so that the kernel drops what comes.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/**
 * Run by a Node of its own, because it must be stopped to accept nothing. It is ready before the port is free, and takes the
 * port within a millisecond or two of its former owner's death.
 */
const LISTENER = `
const net = require("node:net");
const port = Number(process.argv[1]);
process.stdout.write("waiting\\n");
process.stdin.once("data", function take() {
  const server = net.createServer();
  server.once("error", () => setImmediate(take));
  server.listen({ port, host: "127.0.0.1", backlog: 1 }, () => {
    for (let i = 0; i < 4; i++) net.connect({ port, host: "127.0.0.1" }).on("error", () => undefined);
    // Node connects in its next tick. The kernel puts the connections into the queue by itself; nobody here ever accepts them.
    process.nextTick(() => process.nextTick(() => process.kill(process.pid, "SIGSTOP")));
  });
});
`;

export interface Silencer {
  /** Takes the port as soon as it is free. */
  take(): void;
  /** Gives it back. */
  end(): Promise<void>;
}

export async function silencerOf(port: number): Promise<Silencer> {
  const child: ChildProcess = spawn(process.execPath, ["-e", LISTENER, String(port)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await once(child.stdout ?? child, "data");
  return {
    take: () => void child.stdin?.write("take\n"),
    async end() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
}
