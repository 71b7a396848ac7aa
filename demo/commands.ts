// What to type next, from the clone: exact lines.

import pc from "picocolors";
import type { Shard } from "./shard.ts";
import type { Watch } from "./watch.ts";

/** `adm`: how manatee-adm is called from the clone. Names and ports are those of this moment. */
export function commandsToTry({ store, password, peers }: Shard, watch: Watch, adm: string): string[] {
  const where = store.kind === "local" ? `MANATEE_STORE_DIR=${store.directory}` : `ZK_IPS=${store.address}`;
  const short = adm.includes(" ") ? "$adm" : adm;
  const named = (role: string) => [...watch.reports].find(([, report]) => report?.role === role)?.[0] ?? peers[0];
  const primary = named("primary");
  return [
    pc.bold("  To try, in another terminal, in this folder:"),
    `    export ${where} SHARD=demo PGPASSWORD=${password}`,
    ...(short === adm ? [] : [`    adm="${adm}"`]),
    `    ${short} show`,
    `    ${short} verify -v`,
    `    ${short} history -v`,
    `    ${short} promote -y -r sync -n ${named("sync")?.name}`,
    `    kill -9 $(head -1 ${primary?.dataDir}/postmaster.pid)`,
    `    psql -h 127.0.0.1 -p ${primary?.pgPort} -U postgres -c "select count(*) from demo"`,
  ];
}
