// Names of datasets, as every storage can bear them.

const PART = /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/;
const LENGTH_MAX = 200;

/** `tank/manatee/pg`: at most 200 characters, no part that could be taken for an option or lead upwards. */
export function isDatasetName(name: string): boolean {
  return name.length <= LENGTH_MAX && name.split("/").every((part) => PART.test(part) && !part.includes(".."));
}

/** Behind the `@`. */
export function isSnapshotName(dataset: string, name: string): boolean {
  return PART.test(name) && dataset.length + name.length < LENGTH_MAX;
}
