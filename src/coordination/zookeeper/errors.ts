// The driver's operational errors, as the port names them.

import { ManateeError } from "../../base/errors.ts";

/** Not connected, or cut off before an answer to something that changes nothing. */
export function unreachable(message: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "STORE_UNREACHABLE",
    message,
    remedy: "retry",
    hint: "Check that the ZooKeeper servers run, have a majority, and can be reached from this machine.",
    cause,
  });
}

/** A write went out and no answer came back. */
export function outcomeUnknown(message: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "STORE_OUTCOME_UNKNOWN",
    message,
    remedy: "reobserve",
    hint: "Read the nodes again: the write may have happened.",
    cause,
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

export function notPermitted(what: string): ManateeError {
  return new ManateeError({
    code: "STORE_NOT_PERMITTED",
    message: `the store does not permit ${what}`,
    remedy: "operator",
    hint: "Compare the configured user and password with the access control list of the node (zkCli.sh getAcl).",
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

export function callAborted(cause: unknown): ManateeError {
  return new ManateeError({
    code: "STORE_CALL_ABORTED",
    message: "the call to the store was given up by its caller",
    remedy: "reobserve",
    hint: "Nothing has to be done: whoever asked no longer wants to know.",
    cause,
  });
}

export function credentialsMalformed(why: string): ManateeError {
  return new ManateeError({
    code: "STORE_CREDENTIALS",
    message: `the store's credentials are malformed: ${why}`,
    remedy: "operator",
    hint: "Write them as user:password.",
  });
}

/** The store (or what listens in its place) refused who we are: no other server will take us either. */
export function authenticationFailed(message: string, cause?: unknown): ManateeError {
  return new ManateeError({
    code: "STORE_AUTHENTICATION",
    message,
    remedy: "operator",
    hint: "Compare the user, password and certificates of the configuration with those of the ZooKeeper servers.",
    cause,
  });
}
