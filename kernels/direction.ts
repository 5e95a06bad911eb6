/**
 * The order in which a kernel goes through the tokens of a sequence: from the first to the last, or from the last to
 * the first.
 */
export type Direction = 'forward' | 'reverse';
