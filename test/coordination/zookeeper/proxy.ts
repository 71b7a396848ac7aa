// A TCP proxy between client and server that can lose, hold and cut.

import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Proxy {
  readonly port: number;
  readonly connectString: string;
  /** Connections accepted so far, and open now. */
  readonly accepted: number;
  readonly open: number;
  /** Resets all connections. */
  cut(): void;
  /** From now on (for connections of now and later) what that side sends is thrown away: half-open. */
  swallow(side: "client" | "server" | "both"): void;
  /** Each chunk of that side is passed on so much later. */
  delay(side: "client" | "server", ms: number): void;
  /** New connections are cut at once. */
  refuse(): void;
  /** Undoes `swallow`, `delay` and `refuse`. */
  heal(): void;
  /** Where new connections lead. */
  leadTo(port: number): void;
  stop(): Promise<void>;
}

export async function startProxy(targetPort: number): Promise<Proxy> {
  let target = targetPort;
  let refusing = false;
  let accepted = 0;
  const lost = { client: false, server: false };
  const delays = { client: 0, server: 0 };
  const pairs = new Set<readonly [Socket, Socket]>();

  const pass = (from: Socket, to: Socket, side: "client" | "server"): void => {
    from.on("data", (chunk: Buffer) => {
      if (lost[side]) return;
      if (delays[side] === 0) to.write(chunk);
      else setTimeout(() => to.write(chunk), delays[side]);
    });
    from.on("error", () => {});
    from.on("close", () => {
      if (!lost[side]) to.destroy();
    });
  };

  const server = createServer((client) => {
    accepted++;
    client.setNoDelay(true);
    if (refusing) {
      client.on("error", () => {});
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ port: target, host: "127.0.0.1", noDelay: true });
    const pair = [client, upstream] as const;
    pairs.add(pair);
    client.on("close", () => pairs.delete(pair));
    pass(client, upstream, "client");
    pass(upstream, client, "server");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;

  const cut = (): void => {
    for (const [client, upstream] of pairs) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
    pairs.clear();
  };
  return {
    port,
    connectString: `127.0.0.1:${port}`,
    get accepted() {
      return accepted;
    },
    get open() {
      return pairs.size;
    },
    cut,
    swallow(side) {
      if (side !== "server") lost.client = true;
      if (side !== "client") lost.server = true;
    },
    delay(side, ms) {
      delays[side] = ms;
    },
    refuse() {
      refusing = true;
    },
    heal() {
      refusing = false;
      lost.client = lost.server = false;
      delays.client = delays.server = 0;
    },
    leadTo(port) {
      target = port;
    },
    async stop() {
      cut();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
