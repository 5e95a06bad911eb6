// Parts of a data set: pictures that are kept apart, and the rest.

import { ValueError } from '../../core/errors.ts';
import type { Dataset } from './dataset.ts';

/** The items of a data set at the given places, in that order. */
export function subset(dataset: Dataset, places: readonly number[]): Dataset {
  const { size, channels, numClasses, classNames } = dataset;
  return {
    length: places.length,
    size,
    channels,
    numClasses,
    classNames,
    item: (index) => dataset.item(places[index]),
  };
}

/**
 * Keeps `count` items apart, evenly spread over the data set.
 *
 * @throws ValueError unless there remain some
 */
export function holdOut(dataset: Dataset, count: number): { readonly rest: Dataset; readonly heldOut: Dataset } {
  if (!(Number.isInteger(count) && count >= 1 && count < dataset.length))
    throw new ValueError('holdOut', `is ${count}`, {
      option: 'heldOut',
      expected: `1 to ${dataset.length - 1}, fewer than the ${dataset.length} images of the data set`,
    });
  const places = Array.from({ length: count }, (_, i) => Math.floor(((i + 0.5) * dataset.length) / count));
  const apart = new Set(places);
  const others = Array.from({ length: dataset.length }, (_, i) => i).filter((i) => !apart.has(i));
  return { rest: subset(dataset, others), heldOut: subset(dataset, places) };
}
