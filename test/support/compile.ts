// Parts of the code, compiled: for a process that a test starts, which has no other way to run them on every supported Node.

import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

export interface Compiled {
  /** With `src/…` below it. */
  readonly folder: string;
  readonly remove: () => Promise<void>;
}

/** `files`, from the repository's root, with all that they import. */
export async function compile(files: readonly string[]): Promise<Compiled> {
  const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
  const base = await mkdtemp(join(tmpdir(), "manatee-compiled-"));
  const folder = join(base, "dist");
  await symlink(join(root, "node_modules"), join(base, "node_modules"));
  await writeFile(join(base, "package.json"), '{"type":"module"}');
  await writeFile(
    join(base, "tsconfig.json"),
    JSON.stringify({
      extends: join(root, "tsconfig.build.json"),
      compilerOptions: { outDir: folder, rootDir: root, sourceMap: false },
      files: files.map((file) => join(root, file)),
      include: [],
    }),
  );
  await promisify(execFile)(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", base]);
  return { folder, remove: () => rm(base, { recursive: true, force: true }) };
}
