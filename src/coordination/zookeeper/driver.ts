// ZooKeeper behind the coordination port: reads the configuration, opens sessions.

import type { Clock, Log, Random, Timers } from "../../world/port.ts";
import type { Coordination } from "../port.ts";
import { formatAddress, parseConnectString } from "./connect-string.ts";
import { credentialsOf } from "./credentials.ts";
import { plainDial, tlsDial, type TlsFiles } from "./dial.ts";
import { ZooKeeperSession } from "./session.ts";

export interface ZooKeeperOptions {
  /** `host:port,host:port/chroot`; IPv6 addresses in brackets. */
  readonly connectString: string;
  /** `user:password`: who we are; nodes are made with all rights for that user and none for others. Without it: open to all. */
  readonly digest?: string;
  /** `user:password` for SASL DIGEST-MD5, for servers that demand it; nodes are made with all rights for that user. */
  readonly saslDigest?: string;
  /** PEM files; the servers' certificates are checked against the authority and their names. */
  readonly tls?: TlsFiles;
  readonly log: Log;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
}

/** Throws `STORE_CONNECT_STRING` or `STORE_CREDENTIALS` where the options are malformed; connects only when a session is opened. */
export function zookeeper(options: ZooKeeperOptions): Coordination {
  const { connectString, digest, saslDigest, tls, log, clock, timers, random } = options;
  const target = parseConnectString(connectString);
  const credentials = credentialsOf({ digest, saslDigest, random });
  const dial = tls === undefined ? plainDial() : tlsDial(tls);
  const description = `zookeeper ${target.servers.map(formatAddress).join(",")}${target.chroot}`;
  return {
    description,
    open: (session) =>
      new ZooKeeperSession({ description, target, dial, credentials, log, clock, timers, random }, session),
  };
}
