// The sets of pictures that are compared: a data set's split, or samples of a checkpoint.

import { epochOrder, type Dataset } from '../../models/data/dataset.ts';
import type { Channels } from '../../models/data/channels.ts';
import { openData, type OpenDataOptions } from '../data/openData.ts';
import { pathOfData } from '../data/runData.ts';
import { skipReporter } from '../skipReporter.ts';
import type { DataSplit } from '../data/split.ts';
import { say } from '../progress.ts';
import { storeFolder } from './partStore.ts';

/** A set with a fixed order: evaluations of more pictures begin with those of fewer. */
export interface PictureSet {
  readonly label: string;
  /** All that decides its pictures and their order. */
  readonly about: object;
  /** Where what is computed from it is kept. */
  readonly store: string;
  readonly dataset: Dataset;
  /** Whether the other split exists. */
  readonly splits: boolean;
}

export type EvalDataOptions = Pick<OpenDataOptions, 'unlabelled' | 'background' | 'cifarLabels'> & {
  readonly size: number;
  readonly channels?: Channels;
  readonly split?: DataSplit;
  readonly cache?: string;
  readonly signal: AbortSignal;
};

/**
 * Opens data for evaluation, in an order that mixes classes.
 * @throws FileError, FormatError, ValueError
 */
export async function openPictureSet(spec: string, options: EvalDataOptions): Promise<PictureSet> {
  const { cache, ...rest } = options;
  const opened = await openData(spec, {
    ...rest,
    onSkip: skipReporter(),
    onNotice: say,
    onRetry: (path, why) => say(`Cannot read ${path}: ${why}; trying again.`),
  });
  const { dataset } = opened;
  const order = epochOrder(dataset.length, 0, 0);
  const splits = opened.kind !== 'folder';
  return {
    label: splits ? `${options.split ?? 'train'} of ${spec}` : spec,
    about: { data: opened.fingerprint },
    store: cache ?? (await storeFolder(spec === 'shapes' ? undefined : pathOfData(spec))),
    dataset: { ...fields(dataset), item: (i) => dataset.item(order[i]) },
    splits,
  };
}

/** The first `count` pictures of a set, or those from `begin` on. */
export function part(set: PictureSet, begin: number, end: number): PictureSet {
  if (begin === 0 && end === set.dataset.length) return set;
  const { dataset } = set;
  return {
    ...set,
    about: begin === 0 ? set.about : { ...set.about, begin },
    dataset: { ...fields(dataset), length: end - begin, item: (i) => dataset.item(begin + i) },
  };
}

/** What a data set is beside its items; a data set may be an object of a class, which `...` would not copy. */
export const fields = ({ length, size, channels, numClasses, classNames }: Dataset): Omit<Dataset, 'item'> => ({
  length,
  size,
  channels,
  numClasses,
  classNames,
});
