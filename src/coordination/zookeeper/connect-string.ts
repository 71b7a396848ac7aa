// `host:port,host:port/chroot`: where the servers are and below which node everything lies.

import { ManateeError } from "../../base/errors.ts";

export interface ServerAddress {
  /** Name or address; an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface ConnectString {
  readonly servers: readonly ServerAddress[];
  /** Empty, or `/a/b`. */
  readonly chroot: string;
}

const DEFAULT_PORT = 2181;

/** Throws `STORE_CONNECT_STRING` where it is malformed. */
export function parseConnectString(text: string): ConnectString {
  const slash = text.indexOf("/");
  const list = slash === -1 ? text : text.slice(0, slash);
  // A single slash at the end is the root.
  const chroot = slash === -1 || slash === text.trimEnd().length - 1 ? "" : text.slice(slash).trim();
  if (chroot !== "" && !isNodePath(chroot)) throw malformed(text, `${chroot} is not a path of nodes`);
  return { servers: list.split(",").map((part) => parseAddress(part.trim(), text)), chroot };
}

/** `host:port`, an IPv6 address in brackets. */
export function formatAddress({ host, port }: ServerAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Whether it is `/a/b`: absolute, no empty part, no `.` or `..`, no control character. */
export function isNodePath(path: string): boolean {
  if (!path.startsWith("/") || path.length === 1) return false;
  // oxlint-disable-next-line no-control-regex -- the store refuses them in paths
  if (/[\u0000-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\uffff]/.test(path)) return false;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");
}

function parseAddress(part: string, whole: string): ServerAddress {
  const match = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s:[\]]+))(?::(\d{1,5}))?$/.exec(part);
  if (match === null) throw malformed(whole, part === "" ? "an address is empty" : `${part} is not host:port`);
  const [, bracketed, plain, digits] = match;
  const port = digits === undefined ? DEFAULT_PORT : Number(digits);
  if (port < 1 || port > 65_535) throw malformed(whole, `${port} is not a port`);
  return { host: bracketed ?? plain ?? "", port };
}

function malformed(text: string, why: string): ManateeError {
  return new ManateeError({
    code: "STORE_CONNECT_STRING",
    message: `the store's address ${JSON.stringify(text)} is malformed: ${why}`,
    remedy: "operator",
    hint: "Write it as host:port,host:port/chroot, with IPv6 addresses in brackets.",
  });
}
