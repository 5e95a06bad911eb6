// Features of a set of pictures, as the measures take them.

import { ShapeError, ValueError } from '../../core/errors.ts';

/** A row of `dim` features for each of `count` pictures. */
export interface FeatureSet {
  readonly count: number;
  readonly dim: number;
  /** (count, dim), row-major. */
  readonly data: Float32Array;
}

/** @internal Rows from `begin` to `end`, no copy. */
export function rowsOf({ data, dim }: FeatureSet, begin: number, end: number): Float32Array {
  return data.subarray(begin * dim, end * dim);
}

/** @internal @throws ShapeError, ValueError */
export function checkSets(operation: string, a: FeatureSet, b: FeatureSet, least: number): void {
  if (a.dim !== b.dim)
    throw new ShapeError(operation, `The sets have ${a.dim} and ${b.dim} features`, {
      expected: 'as many in both',
      remedy: 'use the same network for both',
    });
  for (const { count } of [a, b])
    if (count < least)
      throw new ValueError(operation, `A set has ${count === 1 ? '1 picture' : `${count} pictures`}`, {
        expected: `at least ${least}`,
        remedy: 'give more pictures',
      });
}
