// What to type next, from the clone: exact lines.

import pc from "picocolors";
import type { Peer, Shard } from "./shard.ts";

export function commandsToTry({ store, password }: Shard, { primary, adm }: { primary: Peer; adm: string }): string[] {
  const where = store.kind === "local" ? `MANATEE_STORE_DIR=${store.directory}` : `ZK_IPS=${store.address}`;
  return [
    pc.bold("  To try, in another terminal, in this folder:"),
    `    export ${where} SHARD=demo`,
    `    ${adm} show`,
    `    ${adm} verify -v`,
    `    ${adm} history -v`,
    `    ${adm} promote -y -r sync -n $(${adm} peers -H -r sync -o peername)`,
    `    kill -9 $(head -1 ${primary.dataDir}/postmaster.pid)`,
    `    PGPASSWORD=${password} psql -h 127.0.0.1 -p ${primary.pgPort} -U postgres -c 'select count(*) from demo'`,
  ];
}
