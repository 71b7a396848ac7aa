// The server's pg_hba.conf, generated: who may connect, and P1's gate.

import { join } from "node:path";
import type { PostgresConfig } from "../../config/types.ts";
import type { ReplicationPeer } from "../port.ts";

export interface HbaContent {
  readonly gate: "open" | "closed";
  readonly peers: readonly ReplicationPeer[];
  /** The operator's rules. While the gate is closed they are read and never reached: a mistake in them shows before the gate is to open. */
  readonly operator: string;
}

const OPERATORS_PART = "# The operator's own rules.";

export function hbaContent(config: PostgresConfig, { gate, peers, operator }: HbaContent): string {
  const superuser = quote(config.superuser);
  const replication = quote(config.replicationUser);
  const addresses = [...new Set(peers.map(({ ip }) => ip))].sort();
  const lines = [
    "# Written by Manatee, and again whenever something changes: edit the operator's file instead.",
    `# manatee-gate: ${gate}`,
    "",
    "# The sitter, by a socket in a folder of mode 0700: nobody but the owner of the data reaches it.",
    `local all         ${superuser} trust`,
    `local replication ${superuser} trust`,
    "",
    "# Peers of the shard replicate and copy; pg_rewind connects to the database postgres.",
    ...addresses.flatMap((ip) => [
      `host  replication ${replication} ${ip}/${ip.includes(":") ? 128 : 32} scram-sha-256`,
      `host  postgres    ${replication} ${ip}/${ip.includes(":") ? 128 : 32} scram-sha-256`,
    ]),
    "# Whoever streams with a peer's name counts as that peer: this role is for the peers only.",
    `host  all,replication ${replication} all reject`,
    "",
  ];
  if (gate === "closed")
    lines.push(
      "# The gate is closed (P1): clients could see, or be promised, what a failover may still lose.",
      "local all,replication all reject",
      "host  all,replication all all reject",
    );
  lines.push(OPERATORS_PART, operator.trimEnd());
  return `${lines.join("\n")}\n`;
}

/** Of a file of ours. */
export function gateIn(content: string): "open" | "closed" | undefined {
  const found = /^# manatee-gate: (open|closed)$/m.exec(content)?.[1];
  return found === "open" || found === "closed" ? found : undefined;
}

/** Of a line of a file of ours: which of the operator's it is, counted from 1; undefined: it is ours. */
export function operatorsLine(content: string, line: number): number | undefined {
  const before = content.split("\n").indexOf(OPERATORS_PART) + 1;
  return before > 0 && line > before ? line - before : undefined;
}

export function operatorHbaFile(config: PostgresConfig): string {
  return config.operatorHbaFile ?? join(config.dataDir, "pg_hba.conf");
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
