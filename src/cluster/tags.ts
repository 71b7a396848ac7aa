// What an operator says of one peer in its own configuration. Tags choose among peers that the rules allow already (K1): they never
// make an unsafe one allowed. `nofailover` alone also holds something up, the takeover by that peer itself, and that names the way out.

/** As announced in the peer's election node; a peer without tags is {@link NO_TAGS}. */
export interface Tags {
  /** It does not take over by itself; an operator's `promote` and `takeover` go before. Sync only as a last resort: a sync is who takes over. */
  readonly nofailover: boolean;
  /** Sync only as a last resort, where commits would wait or nobody could take over otherwise. */
  readonly nosync: boolean;
  /** Among peers that are alike otherwise the higher one is chosen. */
  readonly priority: number;
  /** Where it stands (a room, a data centre): the sync is chosen in another zone than the primary's, if there is one. */
  readonly zone: string | undefined;
}

export const NO_TAGS: Tags = { nofailover: false, nosync: false, priority: 0, zone: undefined };

/** Why a peer is chosen as sync only where nobody else can be: the tag's name. undefined: it may be chosen. */
export function lastResort(tags: Tags = NO_TAGS): "nosync" | "nofailover" | undefined {
  return tags.nosync ? "nosync" : tags.nofailover ? "nofailover" : undefined;
}

/** Below 0: `a` goes before `b` as the sync beside a primary with the tags `beside`; 0: alike, and the list decides. */
export function compareAsSync(beside: Tags = NO_TAGS): (a: Tags | undefined, b: Tags | undefined) => number {
  const rank = (tags: Tags = NO_TAGS): readonly number[] => [
    lastResort(tags) === undefined ? 0 : 1,
    tags.zone !== undefined && tags.zone === beside.zone ? 1 : 0,
    -tags.priority,
  ];
  return (a, b) => compareRanks(rank(a), rank(b));
}

/** The same, of peers that may found the shard, as its primary (B1). */
export function compareAsFounder(a: Tags = NO_TAGS, b: Tags = NO_TAGS): number {
  return compareRanks([a.nofailover ? 1 : 0, -a.priority], [b.nofailover ? 1 : 0, -b.priority]);
}

/** The first difference of two ranks of the same length; the lower one goes before. */
export function compareRanks(a: readonly number[], b: readonly number[]): number {
  return a.map((value, at) => value - (b[at] ?? 0)).find((difference) => difference !== 0) ?? 0;
}

/** `nosync, priority 5`; empty: no tags. */
export function formatTags({ nofailover, nosync, priority, zone }: Tags = NO_TAGS): string {
  return [
    ...(nofailover ? ["nofailover"] : []),
    ...(nosync ? ["nosync"] : []),
    ...(priority === 0 ? [] : [`priority ${priority}`]),
    ...(zone === undefined ? [] : [`zone ${zone}`]),
  ].join(", ");
}
