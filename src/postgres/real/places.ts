// Where the driver keeps its own files. Beside the data directory, not in it: copies and rewinds carry over what lies inside.

import { basename, dirname, join } from "node:path";
import type { PostgresConfig } from "../../config/types.ts";

export interface Places {
  readonly dataDir: string;
  /** Folder (0700) of everything generated. */
  readonly own: string;
  readonly socketDir: string;
  /** The server's `config_file`: the operator's file, the parameters of our configuration, then `reloadable`. */
  readonly configFile: string;
  readonly reloadable: string;
  readonly hbaFile: string;
  /** The operator's rules that PostgreSQL took in last. */
  readonly acceptedHba: string;
  /** libpq's, for primary_conninfo and pg_rewind. */
  readonly passFile: string;
  readonly serverLog: string;
  /** There while initdb runs: what is in the data directory meanwhile is worth nothing. */
  readonly initdbJournal: string;
  /** There while pg_rewind runs, or a dataset is put in its place, with the mark that holds: the data directory has another one, or none, meanwhile. */
  readonly protectedMark: string;
  /** There while a dataset is put in its place (swap.ts). */
  readonly swapJournal: string;
  readonly forksDir: string;
}

export function placesOf(config: PostgresConfig): Places {
  const own = join(dirname(config.dataDir), `${basename(config.dataDir)}.manatee`);
  return {
    dataDir: config.dataDir,
    own,
    socketDir: config.socketDir ?? join(own, "socket"),
    configFile: join(own, "postgresql.conf"),
    reloadable: join(own, "reloadable.conf"),
    hbaFile: join(own, "pg_hba.conf"),
    acceptedHba: join(own, "pg_hba.accepted.conf"),
    passFile: join(own, "pgpass"),
    serverLog: join(own, "server.log"),
    initdbJournal: join(own, "initdb-under-way"),
    protectedMark: join(own, "rewind-under-way.json"),
    swapJournal: join(own, "swap-under-way.json"),
    forksDir: config.forksDir,
  };
}
