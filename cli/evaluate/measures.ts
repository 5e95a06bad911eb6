// What is measured of a set of samples against a reference, under one network.

import type { Device } from '../../core/index.ts';
import {
  frechetDistance,
  inceptionScore,
  kernelDistance,
  precisionRecall,
  type FeatureNetwork,
  type FeatureStatistics,
  type InceptionScore,
  type KernelDistance,
  type PrecisionRecall,
} from '../../models/evaluate/index.ts';
import type { JudgedSet } from './judgedSets.ts';

/** Measures of a network's features; `bpd` needs none. */
export const METRICS = ['fd', 'kid', 'pr', 'is', 'bpd'] as const;
export type Metric = (typeof METRICS)[number];

/** What a reference is to the measures: stored statistics have no features. */
export type Reference = Pick<JudgedSet, 'statistics'> & Partial<JudgedSet>;

export interface Measures {
  readonly fd?: number;
  readonly kid?: KernelDistance;
  readonly pr?: PrecisionRecall;
  readonly is?: InceptionScore;
}

/** Fewest pictures of an Inception score's splits. */
const SPLITS = 10;

export async function measure(
  device: Device,
  samples: JudgedSet,
  reference: Reference,
  metrics: readonly Metric[],
  signal: AbortSignal,
): Promise<Measures> {
  const wanted = (metric: Metric): boolean => metrics.includes(metric);
  const { features } = reference;
  return {
    ...(wanted('fd') && { fd: await frechetDistance(samples.statistics, reference.statistics, { signal }) }),
    ...(wanted('kid') && features && { kid: await kernelDistance(device, samples.features, features, { signal }) }),
    ...(wanted('pr') && features && { pr: await precisionRecall(device, samples.features, features, { signal }) }),
    ...(wanted('is') &&
      samples.probabilities &&
      samples.probabilities.count >= SPLITS && { is: inceptionScore(samples.probabilities, { splits: SPLITS }) }),
  };
}

/** What must be said beside a distance. */
export function notesOf(network: FeatureNetwork, samples: FeatureStatistics, reference: FeatureStatistics): string[] {
  const few = [
    ['samples', samples.count],
    ['reference pictures', reference.count],
  ] as const;
  return few.flatMap(([what, count]) =>
    count <= network.features
      ? [
          `${count} ${what} are no more than the ${network.features} features of ${networkName(network)}: ` +
            'the covariance is singular, and the distance only compares with others of as many.',
        ]
      : [],
  );
}

/** `classifier` of `FD(classifier)`; FID's network is called by the measure itself. */
const inner = ({ distanceName }: FeatureNetwork): string | undefined => /^FD\((.*)\)$/.exec(distanceName)?.[1];

/** A network by name. */
export const networkName = (network: FeatureNetwork): string => inner(network) ?? "FID's InceptionV3";

/** `KID(nsfwjs-incv3)`: a measure's name with its network. */
export function measureName(network: FeatureNetwork, measure: 'FD' | 'KID' | 'precision' | 'recall' | 'IS'): string {
  if (measure === 'FD') return network.distanceName;
  const name = inner(network);
  return name === undefined
    ? measure === 'KID' || measure === 'IS'
      ? measure
      : `${measure}(FID)`
    : `${measure}(${name})`;
}
