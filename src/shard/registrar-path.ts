/** Where service discovery finds the primary: `1.moray.bh1.joyent.us` → `/us/joyent/bh1/moray/1/pg`. */
export function registrarPath(shard: string): string {
  const labels = shard.split(".").filter((label) => label !== "");
  return `/${[...labels].reverse().join("/")}/pg`;
}
