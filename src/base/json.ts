// JSON that came from outside: nothing is known of it before it was looked at.

export type JsonObject = Readonly<Record<string, unknown>>;

/** undefined: it is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
