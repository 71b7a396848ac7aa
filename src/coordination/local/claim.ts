// Who serves the store: one process at a time, and the next one as soon as that one is dead. Node has no flock; what it has is
// `link`, which fails where the name is taken.
//
// Claims are numbered files. Whoever finds the newest one's holder dead makes the next number; only one can. A holder that is
// dead stays dead, and a claim is never deleted or given back under its number, so that a process which was asleep between
// looking and linking finds its number taken. Claims are cleared away only when many newer ones are there.

import { link, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** A process that slept through so many changes of the server, between looking and linking, might be wrong. */
const CLAIMS_KEPT = 32;

const HOLDER = z.object({
  pid: z.number(),
  /** Of this process and no later one with its pid; empty where the system does not tell. */
  startTime: z.string(),
  bootId: z.string(),
  /** Processes of another container can't be looked at: they count as alive. */
  pidNamespace: z.string(),
  /** It has stopped serving, in order. */
  released: z.boolean(),
});
export type Holder = z.infer<typeof HOLDER>;

export interface Claim {
  readonly number: number;
  /** Only after the last write, and after the socket is closed. */
  release(): Promise<void>;
}

export type ClaimResult =
  | { readonly kind: "ours"; readonly claim: Claim }
  | { readonly kind: "taken"; readonly holder: Holder };

export async function claimService(directory: string): Promise<ClaimResult> {
  const numbers = await claimNumbers(directory);
  const newest = numbers.at(-1) ?? 0;
  const holder = newest === 0 ? undefined : await readHolder(directory, newest);
  if (holder && isAlive(holder)) return { kind: "taken", holder };
  const number = newest + 1;
  const own: Holder = { ...selfAsHolder(), released: false };
  const draft = join(directory, `draft-${own.pid}-${number}-${Math.random().toString(36).slice(2)}`);
  await writeFile(draft, JSON.stringify(own), { mode: 0o600, flag: "wx" });
  try {
    await link(draft, claimPath(directory, number));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST")
      return { kind: "taken", holder: (await readHolder(directory, number)) ?? own };
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
  const now = await claimNumbers(directory);
  if (now.at(-1) !== number) {
    // We slept, and made a number anew that had been cleared away.
    await rm(claimPath(directory, number), { force: true });
    return { kind: "taken", holder: own };
  }
  for (const old of now.filter((each) => each <= number - CLAIMS_KEPT))
    await rm(claimPath(directory, old), { force: true });
  return { kind: "ours", claim: { number, release: () => release(directory, number, own) } };
}

/** Who serves at the moment; undefined: nobody does. */
export async function currentHolder(directory: string): Promise<Holder | undefined> {
  const newest = (await claimNumbers(directory)).at(-1);
  const holder = newest === undefined ? undefined : await readHolder(directory, newest);
  return holder && isAlive(holder) ? holder : undefined;
}

async function release(directory: string, number: number, own: Holder): Promise<void> {
  const draft = join(directory, `draft-${own.pid}-${number}-released`);
  try {
    await writeFile(draft, JSON.stringify({ ...own, released: true }), { mode: 0o600 });
    await rename(draft, claimPath(directory, number));
  } catch {
    // The folder is gone, or the disk is full: the process's end says the same.
  }
}

async function claimNumbers(directory: string): Promise<readonly number[]> {
  const names = await readdir(directory);
  return names
    .flatMap((name) => /^claim-(\d{10})$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

/** undefined: it is not there, or can't be read (written by nobody of ours): then nobody holds it. */
async function readHolder(directory: string, number: number): Promise<Holder | undefined> {
  try {
    return HOLDER.parse(JSON.parse(await readFile(claimPath(directory, number), "utf8")));
  } catch {
    return undefined;
  }
}

function claimPath(directory: string, number: number): string {
  return join(directory, `claim-${String(number).padStart(10, "0")}`);
}

function selfAsHolder(): Omit<Holder, "released"> {
  return {
    pid: process.pid,
    startTime: processStart(process.pid)?.startTime ?? "",
    bootId: bootId(),
    pidNamespace: pidNamespace(),
  };
}

function isAlive(holder: Holder): boolean {
  if (holder.released) return false;
  if (holder.bootId !== bootId()) return false;
  if (holder.pidNamespace !== pidNamespace()) return true;
  if (holder.startTime !== "") {
    const start = processStart(holder.pid);
    // A zombie writes nothing any more.
    return start !== undefined && start.startTime === holder.startTime && !["Z", "X"].includes(start.state);
  }
  try {
    process.kill(holder.pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** proc(5): field 3 is the state, field 22 the start time; the name before them may hold anything, but ends with the last `)`. */
function processStart(pid: number): { state: string; startTime: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0] ?? "", startTime: fields[19] ?? "" };
  } catch {
    return undefined;
  }
}

function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}
