// Every story in test/scenarios comes to its end as told, and each decision in it is the one that was looked through before:
// the transcript beside the script is golden. UPDATE_GOLDEN=1 writes them anew; look at the difference before it is committed.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runScript } from "../../simulation/script.ts";
import { decide } from "../../src/cluster/decide.ts";

const FOLDER = new URL("../scenarios/", import.meta.url);
const update = process.env["UPDATE_GOLDEN"] === "1";

const names = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".txt"))
  .map((name) => name.slice(0, -4));

test("there are scenarios", () => {
  expect(names.length).toBeGreaterThan(50);
});

test.each(names)("scenario %s comes to its end, and decides as before", (name) => {
  const { transcript, failure } = runScript(readFileSync(new URL(`${name}.txt`, FOLDER), "utf8"), decide);
  expect(failure).toBeUndefined();
  const golden = new URL(`${name}.golden`, FOLDER);
  if (update) writeFileSync(golden, transcript);
  else expect(transcript).toBe(readFileSync(golden, "utf8"));
});

test.each(names)("scenario %s expects something that can fail", (name) => {
  const lines = readFileSync(new URL(`${name}.txt`, FOLDER), "utf8").split("\n");
  expect(lines.filter((line) => line.startsWith("expect "))).not.toHaveLength(0);
  expect(lines[0]).toMatch(/^# /);
});
