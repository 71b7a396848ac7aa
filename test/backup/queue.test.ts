import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inTurn, TransferQueue } from "../../src/backup/queue.ts";

const clients = fc.constantFrom("a", "b", "c");

describe("the queue of transfers", () => {
  it("lets nobody begin twice before everybody who waits has begun once", () => {
    fc.assert(
      fc.property(fc.array(clients, { maxLength: 30 }), fc.array(clients, { maxLength: 4 }), (waiting, sending) => {
        const order = inTurn(
          waiting.map((client, at) => ({ client, at })),
          sending,
        );
        expect(order.map(({ at }) => at).sort((x, y) => x - y)).toEqual(waiting.map((_, at) => at));
        const served = new Map<string, number>();
        for (const client of sending) served.set(client, (served.get(client) ?? 0) + 1);
        for (const [i, { client }] of order.entries()) {
          const mine = served.get(client) ?? 0;
          for (const other of new Set(order.slice(i + 1).map((entry) => entry.client)))
            expect(mine).toBeLessThanOrEqual(served.get(other) ?? 0);
          served.set(client, mine + 1);
        }
      }),
    );
  });

  it("keeps to its bounds, and everybody comes to turn, whoever leaves when", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ client: clients, leave: fc.nat(9) }), { maxLength: 40 }), async (steps) => {
        const queue = new TransferQueue({ sendingMax: 2, waitingMax: 5 });
        let places: ReturnType<TransferQueue["enter"]>[] = [];
        for (const { client, leave } of steps) {
          const { length, sending } = queue.counts();
          if (sending === 2 && length === 5) expect(() => queue.enter(client)).toThrow("5 wait");
          else places.push(queue.enter(client));
          if (leave < places.length) {
            places[leave]?.leave();
            places[leave]?.leave();
            places = places.filter((_, i) => i !== leave);
          }
          expect(queue.counts().sending).toBe(Math.min(2, places.length));
          expect(
            places
              .map((place) => place.position())
              .filter((at) => at > 0)
              .sort((a, b) => a - b),
          ).toEqual(Array.from({ length: Math.max(0, places.length - 2) }, (_, i) => i + 1));
        }
        while (places.length > 0) {
          const next = places.find((place) => place.position() === 0);
          await next?.turn;
          next?.leave();
          places = places.filter((place) => place !== next);
        }
        expect(queue.counts()).toMatchObject({ length: 0, sending: 0 });
      }),
    );
  });
});
