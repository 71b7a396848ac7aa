// The rights to delegate. What can't be delegated (mounting on Linux) needs lines of sudoers: docs/operating/storage.md.

import type { DatasetName } from "../port.ts";

/** `zfs allow`: all that the driver does with a dataset and those beside it. On Linux mounting stays root's all the same. */
const RIGHTS =
  "canmount,clone,create,destroy,hold,mount,mountpoint,promote,receive,release,rename,rollback,send,snapshot,userprop";

/** On the parent: datasets are made, renamed and received beside the one that is configured. */
export function allowCommand(user: string, dataset: DatasetName): string {
  return `zfs allow -u ${user} ${RIGHTS} ${parentOf(dataset)}`;
}

function parentOf(dataset: DatasetName): DatasetName {
  const slash = dataset.lastIndexOf("/");
  return slash === -1 ? dataset : dataset.slice(0, slash);
}
