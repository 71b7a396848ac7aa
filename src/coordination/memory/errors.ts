// The operational errors of the stores of our own, as the port names them.

import { ManateeError } from "../../base/errors.ts";

/** Not connected, or cut off before an answer to something that changes nothing. */
export function unreachable(message: string): ManateeError {
  return new ManateeError({
    code: "STORE_UNREACHABLE",
    message,
    remedy: "retry",
    hint: "Look in the log for why the store's server does not answer.",
  });
}

/** A write went out and no answer came back. */
export function outcomeUnknown(message: string): ManateeError {
  return new ManateeError({
    code: "STORE_OUTCOME_UNKNOWN",
    message,
    remedy: "reobserve",
    hint: "Read the nodes again: the write may have happened.",
  });
}

export function sessionExpired(reason: string): ManateeError {
  return new ManateeError({
    code: "STORE_SESSION_EXPIRED",
    message: `the session with the store is over: ${reason}`,
    remedy: "reobserve",
    hint: "Open a new session and look afresh.",
  });
}

export function sessionClosed(): ManateeError {
  return new ManateeError({
    code: "STORE_CLOSED",
    message: "the session was closed by this process",
    remedy: "reobserve",
    hint: "Open a new session.",
  });
}

export function callAborted(): ManateeError {
  return new ManateeError({
    code: "STORE_CALL_ABORTED",
    message: "the call to the store was given up by its caller",
    remedy: "reobserve",
    hint: "Nothing has to be done: whoever asked no longer wants to know.",
  });
}
