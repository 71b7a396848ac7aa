// Keeps both ends of a stream busy: without it, the one that reads waits while the other writes, and the other way round.

/**
 * What comes, in order, each time all that is there: much at once where the reader is the slower one. The source is asked for more until `bytesMax` wait.
 * To leave it leaves the source, as soon as that answers.
 */
export async function* readAhead(
  source: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<Uint8Array[], void, undefined> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let end: { readonly error: unknown } | "well" | undefined;
  let left = false;
  let moreIsThere = () => {};
  let roomIsThere = () => {};
  const filling = (async () => {
    try {
      for await (const piece of source) {
        waiting.push(piece);
        waitingBytes += piece.length;
        moreIsThere();
        while (waitingBytes >= bytesMax && !left) await new Promise<void>((resolve) => (roomIsThere = resolve));
        if (left) return;
      }
      end = "well";
    } catch (error) {
      end = { error };
    }
    moreIsThere();
  })();
  try {
    for (;;) {
      if (waiting.length > 0) {
        const pieces = waiting;
        waiting = [];
        waitingBytes = 0;
        roomIsThere();
        yield pieces;
      } else if (end === "well") return;
      else if (end) throw end.error;
      else await new Promise<void>((resolve) => (moreIsThere = resolve));
    }
  } finally {
    left = true;
    roomIsThere();
    await filling;
  }
}
