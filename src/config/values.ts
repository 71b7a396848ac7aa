// The kinds of value that a configuration holds, as validators. Messages say what is wrong and what would be right.

import * as z from "zod";

export const ipv4 = z.string().refine(isIpv4, { error: "is not an IPv4 address such as 10.0.0.11" });
export const port = whole(1, 65_535, "a port");
/** One less than the others: the status service stands on the port after PostgreSQL's. */
export const postgresPort = whole(1, 65_534, "a port");
export const seconds = whole(1, 86_400, "whole seconds");
export const flag = z.boolean({ error: "must be true or false (without quotation marks)" });
export const text = z.string({ error: "must be a text in quotation marks" }).min(1, { error: "must not be empty" });

export const absolutePath = text
  .refine((path) => path.startsWith("/"), { error: "must be an absolute path, beginning with /" })
  .transform((path) => (path.length > 1 ? path.replace(/\/+$/, "") : path));

/** A name of a PostgreSQL role that needs no quotation marks. */
export const roleName = text.regex(/^[a-z_][a-z0-9_]{0,62}$/, {
  error: "must be a role name of lower-case letters, digits and _ (63 at most)",
});

export function ms(least: number, most: number) {
  return whole(least, most, "whole milliseconds");
}

export function whole(least: number, most: number, what: string) {
  const error = `must be ${what}: a whole number from ${least} to ${most}`;
  return z.number({ error }).int({ error }).min(least, { error }).max(most, { error });
}

const UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 2 ** 10,
  kib: 2 ** 10,
  mb: 2 ** 20,
  mib: 2 ** 20,
  gb: 2 ** 30,
  gib: 2 ** 30,
  tb: 2 ** 40,
  tib: 2 ** 40,
};

/** Bytes as a number, or a text with a unit; units are powers of 1024, as in postgresql.conf. */
export const bytes = z
  .union([z.number(), z.string()], {
    error: 'must be bytes: a whole number, or a text with a unit such as "512MB" or "1GiB"',
  })
  .transform((value, context) => {
    const parsed = typeof value === "number" ? value : parseBytes(value);
    if (parsed !== undefined && Number.isSafeInteger(parsed) && parsed >= 0) return parsed;
    context.addIssue({
      code: "custom",
      message: 'must be bytes: a whole number, or a text with a unit such as "512MB" or "1GiB"',
    });
    return z.NEVER;
  });

function parseBytes(value: string): number | undefined {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*$/.exec(value);
  const unit = match && UNITS[(match[2] as string).toLowerCase()];
  return match && unit !== null && unit !== undefined ? Math.round(Number(match[1]) * unit) : undefined;
}

export function isIpv4(value: string): boolean {
  return (
    /^\d{1,3}(\.\d{1,3}){3}$/.test(value) &&
    value.split(".").every((part) => Number(part) <= 255 && String(Number(part)) === part)
  );
}
