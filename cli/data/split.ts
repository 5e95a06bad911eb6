// The two parts that data sets are given out in.

export const SPLITS = ['train', 'test'] as const;

/** What is trained on, and what is kept apart from it. */
export type DataSplit = (typeof SPLITS)[number];
