// What goes wrong with storage, whatever the driver: code, remedy and way out in one place.

import { ManateeError, type Remedy } from "../base/errors.ts";

export type StorageErrorCode =
  | "STORAGE_BUSY"
  | "STORAGE_NO_SPACE"
  | "STORAGE_NO_DATASET"
  | "STORAGE_NO_SNAPSHOT"
  | "STORAGE_EXISTS"
  | "STORAGE_NOT_PERMITTED"
  | "STORAGE_NEWER_SNAPSHOTS"
  | "STORAGE_HELD"
  | "STORAGE_HAS_CLONES"
  | "STORAGE_BAD_NAME"
  | "STORAGE_BAD_STREAM"
  | "STORAGE_CANCELLED"
  | "STORAGE_UNAVAILABLE"
  | "STORAGE_FAILED";

const ABOUT: Readonly<Record<StorageErrorCode, { readonly remedy: Remedy; readonly hint: string }>> = {
  STORAGE_BUSY: { remedy: "retry", hint: "Look which process has its working folder or an open file there: lsof." },
  STORAGE_NO_SPACE: {
    remedy: "operator",
    hint: "Give the pool or disk more space, or remove snapshots that nobody needs.",
  },
  STORAGE_NO_DATASET: { remedy: "operator", hint: "Create the dataset, or correct its name in the configuration." },
  STORAGE_NO_SNAPSHOT: { remedy: "reobserve", hint: "Look which snapshots there are: manatee-adm snapshots." },
  STORAGE_EXISTS: {
    remedy: "reobserve",
    hint: "Look whether what bears that name is still needed, and remove it otherwise.",
  },
  STORAGE_NOT_PERMITTED: { remedy: "operator", hint: "Give the right: docs/operating/storage.md says which and how." },
  STORAGE_NEWER_SNAPSHOTS: { remedy: "reobserve", hint: "Choose the newest snapshot, or let the newer ones go." },
  STORAGE_HELD: { remedy: "reobserve", hint: "Wait for whoever holds it, or release the hold." },
  STORAGE_HAS_CLONES: { remedy: "reobserve", hint: "Remove or promote the clones first." },
  STORAGE_BAD_NAME: { remedy: "operator", hint: "Use letters, digits and _ . : - in names, with / between the parts." },
  STORAGE_BAD_STREAM: {
    remedy: "retry",
    hint: "Nothing has to be done: what came is thrown away, and asked for again.",
  },
  STORAGE_CANCELLED: { remedy: "reobserve", hint: "Nothing has to be done: whoever cancelled it decides afresh." },
  STORAGE_UNAVAILABLE: {
    remedy: "operator",
    hint: "Look whether the storage's program is installed, and the pool or disk well.",
  },
  STORAGE_FAILED: { remedy: "retry", hint: "Read what the program said, and look at the storage." },
};

/** `hint`: where there is a better one than that of the code. */
export function storageError(
  code: StorageErrorCode,
  message: string,
  { cause, hint }: { cause?: unknown; hint?: string } = {},
): ManateeError {
  const about = ABOUT[code];
  return new ManateeError({
    code,
    message,
    remedy: about.remedy,
    hint: hint ?? about.hint,
    ...(cause !== undefined && { cause }),
  });
}
