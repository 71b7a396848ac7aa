// The long piece of work under way (one at a time), and the last failure, as the observation shows them.

import { explainError, ManateeError } from "../../base/errors.ts";
import type { Failure, Job } from "../../cluster/observation.ts";
import type { Clock, Log } from "../../world/port.ts";
import { errorCode } from "./durable.ts";

const DISK_IS_FULL: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT"]);

export interface JobHandle {
  readonly signal: AbortSignal;
  progress(text: string): void;
}

export class Jobs {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onChange: () => void;
  #job: Job | undefined;
  #running: Promise<void> = Promise.resolve();
  #abort = new AbortController();
  #failure: Failure | undefined;

  constructor({ clock, log, onChange }: { clock: Clock; log: Log; onChange: () => void }) {
    this.#clock = clock;
    this.#log = log;
    this.#onChange = onChange;
  }

  get job(): Job | undefined {
    return this.#job;
  }

  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** Begins it; its failure is shown, not thrown. Errors: `PG_JOB_RUNNING`. */
  begin(kind: Job["kind"], work: (handle: JobHandle) => Promise<void>): void {
    this.demandIdle(kind);
    const abort = new AbortController();
    this.#abort = abort;
    this.#job = { kind, since: this.#clock.now(), progress: undefined };
    this.#running = (async () => {
      try {
        await work({
          signal: abort.signal,
          progress: (progress) => {
            if (this.#job) this.#job = { ...this.#job, progress };
          },
        });
        this.succeeded(kind);
      } catch (error) {
        if (abort.signal.aborted) this.#log.info("job cancelled", { job: kind });
        else this.failed(kind, error);
      } finally {
        this.#job = undefined;
        this.#onChange();
      }
    })();
  }

  demandIdle(wanted: string): void {
    if (!this.#job) return;
    throw new ManateeError({
      code: "PG_JOB_RUNNING",
      message: `${wanted} can't begin while ${this.#job.kind} is under way`,
      remedy: "reobserve",
      hint: "Wait for the job under way, or cancel it.",
    });
  }

  /** Resolves when it has ended. */
  async cancel(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  ended(): Promise<void> {
    return this.#running;
  }

  succeeded(action: string): void {
    if (this.#failure?.action === action) this.#failure = undefined;
  }

  failed(action: string, error: unknown): void {
    const failure: Failure = {
      action,
      ...describeFailure(error),
      at: this.#clock.now(),
      count: this.#failure?.action === action ? this.#failure.count + 1 : 1,
    };
    this.#failure = failure;
    this.#log.warn("action on PostgreSQL failed", {
      action,
      code: failure.code,
      reason: explainError(error),
      count: failure.count,
    });
  }
}

function describeFailure(error: unknown): Pick<Failure, "code" | "message" | "hint"> {
  if (error instanceof ManateeError) return { code: error.code, message: error.message, hint: error.hint };
  const message = explainError(error);
  if (DISK_IS_FULL.has(errorCode(error) ?? ""))
    return { code: "PG_NO_SPACE", message, hint: "Make room on that disk; the peer goes on by itself." };
  return { code: "PG_UNEXPECTED", message, hint: "Look at the sitter's and the server's log." };
}
