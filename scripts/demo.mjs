// `npm run demo`: a shard of three peers on this machine, from nothing. See --help.

import { launch } from "./lib/launch.mjs";
import { CannotGoOn, run } from "./lib/say.mjs";

const help = `npm run demo [-- OPTIONS]

Starts a shard of three peers on this machine, writes to it, kills the primary, and shows that the shard goes on
and that no acknowledged write is lost. Then it stays up, with commands to try, until Ctrl-C. Leaves nothing behind.

  --auto         end by itself: exit status 0 if all went as it must
  --zookeeper    with a real ZooKeeper instead of the embedded store
  --embedded     with the embedded PostgreSQL, even if the system has one
  --keep         leave the folder with logs and data where it is
  --plain        lines instead of the live table
`;

await run(async () => {
  const options = process.argv.slice(2);
  if (options.includes("--help") || options.includes("-h")) {
    process.stdout.write(help);
    return 0;
  }
  const known = ["--auto", "--zookeeper", "--embedded", "--keep", "--plain"];
  const unknown = options.find((option) => !known.includes(option));
  if (unknown) throw new CannotGoOn(`There is no option ${unknown}.\n\n${help}`);
  const has = (option) => options.includes(option);
  return launch({
    zookeeper: has("--zookeeper"),
    embedded: has("--embedded"),
    keep: has("--keep"),
    args: options.filter((option) => option === "--auto" || option === "--plain"),
  });
});
