// The verdict, as lines.

import { judgeHealth } from "../cluster/health.ts";
import type { Finding } from "../cluster/health-facts.ts";
import type { ShardAccess } from "./connect.ts";
import { paint } from "./paint.ts";
import type { Picture } from "./picture.ts";

export async function judge({ shard }: ShardAccess, picture: Picture): Promise<readonly Finding[]> {
  const names = await shard.session.list(`${shard.path}/history`);
  return judgeHealth({ ...picture, historyEntries: names?.length ?? 0, evaluationOnly: shard.session.evaluationOnly });
}

/** Notes are for `-v`, and don't count. */
export function problemsOf(findings: readonly Finding[]): readonly Finding[] {
  return findings.filter(({ severity }) => severity !== "note");
}

/** `error: message (what to do)`. `colour`: of the output that it goes to. */
export function findingLine({ severity, message, remedy }: Finding, colour: boolean): string {
  const colours = { error: "red", warning: "yellow", note: "dim" } as const;
  return `${paint(colour, colours[severity], `${severity}:`)} ${message} (${remedy})`;
}
