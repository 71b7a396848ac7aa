// Which store, and how it is reached: from the file's `store` or `zkCfg`, the environment's ZK_IPS, or a tool's options.

import { DEFAULTS } from "./defaults.ts";
import type { ConfigProblem } from "./problems.ts";
import type { SitterFile } from "./schema.ts";
import type { StoreConfig, TlsConfig } from "./types.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export type StoreResult = { readonly store: StoreConfig } | { readonly problems: readonly ConfigProblem[] };

/** What a file says of the store; also put together from a tool's options. */
export interface StoreSource {
  readonly store?: SitterFile["store"];
  readonly zkCfg?:
    | {
        readonly connStr?: string | undefined;
        readonly opts?: { readonly sessionTimeout?: number | undefined } | undefined;
        readonly digest?: string | undefined;
        readonly saslDigest?: string | undefined;
        readonly tls?: TlsConfig | undefined;
      }
    | undefined;
}

export function storeOf(file: StoreSource, env: Environment): StoreResult {
  if (file.store !== undefined && file.zkCfg !== undefined)
    return { problems: [{ key: "store", message: "stands beside zkCfg", hint: "keep one of the two" }] };
  if (file.store?.kind === "local")
    return {
      store: {
        kind: "local",
        directory: file.store.directory,
        sessionTimeoutMs: file.store.sessionTimeoutMs ?? DEFAULTS.sessionTimeoutMs,
      },
    };
  const zk = file.store ?? {
    connectString: file.zkCfg?.connStr,
    sessionTimeoutMs: file.zkCfg?.opts?.sessionTimeout,
    digest: file.zkCfg?.digest,
    saslDigest: file.zkCfg?.saslDigest,
    tls: file.zkCfg?.tls,
  };
  const key = file.store === undefined ? "zkCfg.connStr" : "store.connectString";
  const given = zk.connectString ?? present(env["ZK_IPS"]);
  if (given === undefined)
    return {
      problems: [{ key, message: "is missing", hint: 'add "zkCfg": { "connStr": "HOST:2181,…" } or set ZK_IPS' }],
    };
  const connectString = normalConnectString(given);
  if (connectString === undefined)
    return {
      problems: [
        {
          key: zk.connectString === undefined ? "ZK_IPS" : key,
          message: `is not a list of HOST:PORT: ${given}`,
          hint: "write HOST:PORT,HOST:PORT, IPv6 addresses in [ ]",
        },
      ],
    };
  const problems = ["MANATEE_ZK_DIGEST", "MANATEE_ZK_SASL"]
    .filter((name) => !/^([^:]+:.+)?$/.test(env[name] ?? ""))
    .map((key) => ({ key, message: "is not of the form USER:PASSWORD", hint: "correct it in the environment" }));
  if (problems.length > 0) return { problems };
  return {
    store: {
      kind: "zookeeper",
      connectString,
      sessionTimeoutMs: zk.sessionTimeoutMs ?? DEFAULTS.sessionTimeoutMs,
      digest: present(env["MANATEE_ZK_DIGEST"]) ?? zk.digest,
      saslDigest: present(env["MANATEE_ZK_SASL"]) ?? zk.saslDigest,
      tls: zk.tls,
    },
  };
}

/** With a port for each server (2181); undefined: not a list of servers. */
function normalConnectString(given: string): string | undefined {
  const match = /^([^/]+)(\/.*)?$/.exec(given.trim());
  const chroot = (match?.[2] ?? "").replace(/\/+$/, "");
  if (!match || !/^(\/[^/\s]+)*$/.test(chroot)) return undefined;
  const servers = (match[1] as string).split(",").map((server) => server.trim());
  const withPorts: string[] = [];
  for (const server of servers) {
    const parts = /^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5}))?$/.exec(server);
    const port = Number(parts?.[2] ?? DEFAULTS.zookeeperPort);
    if (!parts || port < 1 || port > 65_535) return undefined;
    withPorts.push(`${parts[1]}:${port}`);
  }
  return withPorts.join(",") + chroot;
}

export function present(value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : value;
}
