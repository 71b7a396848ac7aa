// What to type next, from the clone: exact lines.

import pc from "picocolors";
import type { Shard } from "./shard.ts";

export function commandsToTry({ store, peers, password }: Shard): string[] {
  const where = store.kind === "local" ? `local:${store.directory}` : store.address;
  const adm = (command: string) => `bin/manatee-adm ${command.replace(" ", ` -z ${where} -s demo `)}`;
  const first = peers[0];
  return [
    pc.bold("  To try, in another terminal, in this folder:"),
    `    ${adm("show ")}`,
    `    ${adm("verify -v")}`,
    `    ${adm("history -v")}`,
    `    ${adm("promote -r sync -y")}`,
    ...(first ? [`    kill -9 $(head -1 ${first.dataDir}/postmaster.pid)`] : []),
    `    PGPASSWORD=${password} psql -h 127.0.0.1 -p ${first?.pgPort} -U postgres -c 'select count(*) from demo'`,
  ];
}
