// Features of a set of pictures under one network, computed part by part and kept; and its statistics.

import type { Device } from '../../core/index.ts';
import {
  featureStatistics,
  PictureJudge,
  type ClassProbabilities,
  type FeatureNetwork,
  type FeatureSet,
  type FeatureStatistics,
} from '../../models/evaluate/index.ts';
import { bytesOf, floatsOf, PartStore } from './partStore.ts';
import type { PictureSet } from './pictureSets.ts';

/** Pictures of a part. */
const PART = 500;

/** A set as a network sees it. */
export interface JudgedSet {
  readonly features: FeatureSet;
  readonly probabilities?: ClassProbabilities;
  readonly statistics: FeatureStatistics;
}

export interface JudgeSetOptions {
  readonly device: Device;
  readonly network: FeatureNetwork;
  readonly signal: AbortSignal;
  /** Called with the number of pictures done. */
  readonly onProgress: (done: number) => void;
}

/**
 * Features of all pictures of a set; parts that are kept aren't computed again.
 * @throws FileError, FormatError, ShapeError; what the signal was aborted with
 */
export async function judgeSet(set: PictureSet, options: JudgeSetOptions): Promise<JudgedSet> {
  const { device, network, signal, onProgress } = options;
  const { features: dim, classes } = network;
  const count = set.dataset.length;
  const store = new PartStore(set.store, 'features', { ...set.about, network: network.identity });
  const features = new Float32Array(count * dim),
    probabilities = new Float32Array(count * classes);
  using judge = new PictureJudge(device, network, { batch: Math.min(network.batch, count) });
  for (let begin = 0; begin < count; begin += PART) {
    const end = Math.min(count, begin + PART);
    const name = `${begin}-${end}.f32`;
    const kept = await store.read(name, (end - begin) * (dim + classes) * 4);
    if (kept) {
      const values = floatsOf(kept);
      features.set(values.subarray(0, (end - begin) * dim), begin * dim);
      probabilities.set(values.subarray((end - begin) * dim), begin * classes);
      onProgress(end);
    } else {
      const found = await judge.judge(set.dataset, {
        begin,
        end,
        signal,
        onProgress: (done) => onProgress(begin + done),
      });
      features.set(found.features.data, begin * dim);
      if (found.probabilities) probabilities.set(found.probabilities.data, begin * classes);
      const values = new Float32Array((end - begin) * (dim + classes));
      values.set(found.features.data);
      if (found.probabilities) values.set(found.probabilities.data, (end - begin) * dim);
      await store.write(name, bytesOf(values));
    }
  }
  const seen: FeatureSet = { count, dim, data: features };
  return {
    features: seen,
    ...(classes > 0 && { probabilities: { count, classes, data: probabilities } }),
    statistics: await featureStatistics(device, seen, { signal }),
  };
}
