import { describe, expect, it } from "vitest";
import { listen } from "../../src/status/listen.ts";
import type { PeerReport } from "../../src/status/report.ts";
import { statusService } from "../../src/status/service.ts";
import { realNetwork } from "../../src/world/real/network.ts";

function report(healthy: boolean): PeerReport {
  return {
    id: "10.0.0.1:5432:12345",
    postgres: { healthy, error: healthy ? null : "connection refused", lastCheck: "2026-01-01T00:00:00.000Z" },
  } as PeerReport;
}

function service({ known, ageMs = 0 }: { known: PeerReport | undefined; ageMs?: number }) {
  return statusService({ report: () => known, journal: () => [], roundAgeMs: () => ageMs });
}

async function get(app: ReturnType<typeof service>, path: string): Promise<{ status: number; json: unknown }> {
  const response = await app.request(path);
  return { status: response.status, json: await response.json() };
}

describe("the status service", () => {
  it("lists its routes at / and where there is none", async () => {
    const app = service({ known: report(true) });
    const { status, json } = await get(app, "/");
    expect(status).toBe(200);
    expect(Object.keys((json as { routes: object }).routes)).toEqual([
      "/",
      "/ping",
      "/state",
      "/restore",
      "/journal",
      "/live",
    ]);
    expect(await get(app, "/nothing")).toMatchObject({ status: 404, json: { error: "no such route: /nothing" } });
  });

  it("answers /ping with 200 where PostgreSQL is healthy and 503 where not, as the original's did", async () => {
    expect(await get(service({ known: report(true) }), "/ping")).toEqual({
      status: 200,
      json: { healthy: true, error: null, lastCheck: "2026-01-01T00:00:00.000Z" },
    });
    expect(await get(service({ known: report(false) }), "/ping")).toEqual({
      status: 503,
      json: { healthy: false, error: "connection refused", lastCheck: "2026-01-01T00:00:00.000Z" },
    });
  });

  it("answers 503 with the reason before anything was observed", async () => {
    const app = service({ known: undefined });
    expect(await get(app, "/ping")).toMatchObject({ status: 503, json: { healthy: false } });
    expect(await get(app, "/state")).toMatchObject({ status: 503 });
  });

  it("gives the report at /state, and no restore at /restore", async () => {
    const app = service({ known: report(true) });
    expect(await get(app, "/state")).toEqual({ status: 200, json: report(true) });
    expect(await get(app, "/restore")).toEqual({ status: 200, json: { restore: null } });
  });

  it("tells at /live whether the sitter goes on", async () => {
    expect(await get(service({ known: undefined, ageMs: 1_000 }), "/live")).toEqual({
      status: 200,
      json: { live: true, lastLookMs: 1_000 },
    });
    expect(await get(service({ known: undefined, ageMs: 600_000 }), "/live")).toMatchObject({
      status: 503,
      json: { live: false },
    });
  });

  it("listens on a port, and refuses with the reason where it can't", async () => {
    const app = service({ known: report(true) });
    const first = await listen(app, { host: "127.0.0.1", port: 0 });
    try {
      const answer = await realNetwork.httpGet({ host: "127.0.0.1", port: first.port, path: "/state", limitMs: 5_000 });
      expect(answer).toMatchObject({ status: 200, body: JSON.stringify(report(true)) });
      await expect(listen(app, { host: "127.0.0.1", port: first.port })).rejects.toMatchObject({
        code: "STATUS_PORT_UNUSABLE",
        hint: expect.stringContaining("See what listens there") as string,
      });
      // Of the addresses for documentation (RFC 5737).
      await expect(listen(app, { host: "192.0.2.1", port: first.port })).rejects.toMatchObject({
        code: "STATUS_PORT_UNUSABLE",
        hint: expect.stringContaining("Set ip to an address of this machine, which 192.0.2.1 is not") as string,
      });
    } finally {
      await first.close();
    }
  });
});
