// Units: aliases that tell a reader (and a signature) what a number is.

/** Milliseconds. As an instant: of the monotonic clock, unless the name says `wall`. */
export type Ms = number;

/** Bytes. */
export type Bytes = number;
