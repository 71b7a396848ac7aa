/** The tool was called in a way that can't work. Exit status 2, with the way to the usage. */
export class WrongUse extends Error {}

/** Failed, and everything worth saying has been said. Exit status 1. */
export class Failed extends Error {}
