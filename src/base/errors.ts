// Operational errors: what went wrong outside, what to do about it, and who has to.

/** What a caller may do: try the same again, look afresh first, or wait for an operator. The only thing a retry loop reads. */
export type Remedy = "retry" | "reobserve" | "operator";

export interface ManateeErrorOptions {
  /** Stands in docs/errors.md. */
  readonly code: string;
  /** Lower case, no full stop, concrete values, never the cause's text. */
  readonly message: string;
  readonly remedy: Remedy;
  /** One imperative sentence for 3 a.m. */
  readonly hint: string;
  readonly cause?: unknown;
}

/** An operational error. Match on `code`, not on the class: two copies of the package may be loaded. */
export class ManateeError extends Error {
  readonly code: string;
  readonly remedy: Remedy;
  readonly hint: string;

  constructor({ code, message, remedy, hint, cause }: ManateeErrorOptions) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "ManateeError";
    this.code = code;
    this.remedy = remedy;
    this.hint = hint;
  }
}

/** The message of an error and of its causes, outermost first, joined by ": ". For the edge (logs, the terminal) only. */
export function explainError(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && parts.length < 8; e = e instanceof Error ? e.cause : undefined)
    parts.push(e instanceof Error ? e.message : typeof e === "string" ? e : JSON.stringify(e));
  return parts.join(": ");
}

/** How a failure is logged: as an `error` where an operator must act, with its code and hint where it has them. */
export function howToLog(error: unknown): {
  readonly level: "warn" | "error";
  readonly known: { readonly code?: string; readonly hint?: string };
} {
  if (!(error instanceof ManateeError)) return { level: "warn", known: {} };
  return { level: error.remedy === "operator" ? "error" : "warn", known: { code: error.code, hint: error.hint } };
}
