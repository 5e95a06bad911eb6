/** The order in which a kernel takes the tokens of a sequence: from first to last, or from last to first. */
export type Direction = 'forward' | 'reverse';
