// The Inception score, of any network that classifies.

import { ValueError } from '../../core/errors.ts';

/** Class probabilities of pictures: (count, classes), row-major. */
export interface ClassProbabilities {
  readonly count: number;
  readonly classes: number;
  readonly data: Float32Array;
}

/** A score: mean and deviation over splits. */
export interface InceptionScore {
  readonly mean: number;
  /** Standard deviation over the splits. */
  readonly deviation: number;
  readonly splits: number;
}

/**
 * `exp(E KL(p(y|x) ‖ p(y)))`, mean and deviation over splits of neighbouring pictures, in float64. 1 at least, the
 * number of classes at most; it knows nothing of the data. Source: Salimans et al. 2016 (arXiv 1606.03498), §4.
 *
 * @param splits default 10
 * @throws ValueError with fewer pictures than splits
 */
export function inceptionScore(
  { count, classes, data }: ClassProbabilities,
  { splits = 10 }: { readonly splits?: number } = {},
): InceptionScore {
  if (!(Number.isInteger(splits) && splits >= 1 && splits <= count))
    throw new ValueError('inceptionScore', `is ${splits}`, {
      option: 'splits',
      expected: `a whole number from 1 to ${count}, the pictures`,
    });
  const scores: number[] = [];
  for (let split = 0; split < splits; split++) {
    const begin = Math.floor((split * count) / splits),
      end = Math.floor(((split + 1) * count) / splits);
    const marginal = new Float64Array(classes);
    for (let i = begin; i < end; i++)
      for (let c = 0; c < classes; c++) marginal[c] += data[i * classes + c] / (end - begin);
    let divergence = 0;
    for (let i = begin; i < end; i++)
      for (let c = 0; c < classes; c++) {
        const p = data[i * classes + c];
        if (p > 0) divergence += p * Math.log(p / marginal[c]);
      }
    scores.push(Math.exp(divergence / (end - begin)));
  }
  const mean = scores.reduce((sum, value) => sum + value, 0) / splits;
  const deviation = Math.sqrt(scores.reduce((sum, value) => sum + (value - mean) ** 2, 0) / splits);
  return { mean, deviation, splits };
}
