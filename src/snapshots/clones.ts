// What stands with a clone that an operator asked for, so that whoever comes later knows what it is and when it goes: properties of its dataset, and a hold on the snapshot.

export interface CloneFacts {
  /** On which its server listens. */
  readonly port: number;
  /** The snapshot that it was made of, and when that was taken. */
  readonly snapshot: string;
  readonly takenWallMs: number;
  readonly madeWallMs: number;
  /** It goes then, by this machine's wall clock. */
  readonly untilWallMs: number;
}

const PREFIX = "manatee:clone-";
const HOLD = "manatee-clone-";

type Properties = Readonly<Record<string, string>>;

export function encodeClone({ port, snapshot, takenWallMs, madeWallMs, untilWallMs }: CloneFacts): Properties {
  return {
    [`${PREFIX}port`]: String(port),
    [`${PREFIX}snapshot`]: snapshot,
    [`${PREFIX}taken`]: String(Math.round(takenWallMs)),
    [`${PREFIX}made`]: String(Math.round(madeWallMs)),
    [`${PREFIX}until`]: String(Math.round(untilWallMs)),
  };
}

/** undefined: that is no clone of ours, whatever its name says, and nothing here may touch it. */
export function decodeClone(properties: Properties): CloneFacts | undefined {
  const number = (name: string) => {
    const text = properties[PREFIX + name];
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };
  const [port, takenWallMs, madeWallMs, untilWallMs] = ["port", "taken", "made", "until"].map(number);
  const snapshot = properties[`${PREFIX}snapshot`];
  if (port === undefined || takenWallMs === undefined || madeWallMs === undefined || untilWallMs === undefined)
    return undefined;
  return snapshot === undefined || snapshot === ""
    ? undefined
    : { port, snapshot, takenWallMs, madeWallMs, untilWallMs };
}

/** The tag of the hold on its snapshot. It is put there when the clone's dataset is there, and taken away before that goes. */
export function cloneHold(name: string): string {
  return HOLD + name;
}

/** The clone that a hold is for; undefined: it is for something else. */
export function cloneOfHold(tag: string): string | undefined {
  return tag.startsWith(HOLD) ? tag.slice(HOLD.length) : undefined;
}
