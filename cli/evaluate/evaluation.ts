// An evaluation: sets of pictures, networks and measures, in an order that keeps what is done.

import type { Device } from '../../core/index.ts';
import type { FeatureNetwork } from '../../models/evaluate/index.ts';
import { Progress, type ProgressStyle } from '../progress.ts';
import { judgeSet, type JudgedSet } from './judgedSets.ts';
import { measure, notesOf, type Measures, type Metric, type Reference } from './measures.ts';
import { part, type PictureSet } from './pictureSets.ts';
import type { StoredStatistics } from './statisticsFile.ts';

/** What samples are compared with. */
export interface ReferenceSet {
  readonly label: string;
  /** Its pictures; absent where only statistics are known. */
  readonly set?: PictureSet;
  readonly stored?: StoredStatistics;
  /** The other split, for the floor; where there is none, the set's own halves are compared. */
  readonly other?: PictureSet;
}

export interface NetworkResult {
  readonly network: FeatureNetwork;
  readonly samples: JudgedSet;
  readonly measures: Measures;
  /** The same measures between pictures of the data: what samples could reach at best. */
  readonly floor?: { readonly measures: Measures; readonly what: string };
  readonly reference: { readonly label: string; readonly count: number | undefined; readonly judged: Reference };
  readonly notes: readonly string[];
}

export interface EvaluationOptions {
  readonly device: Device;
  readonly metrics: readonly Metric[];
  readonly floor: boolean;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/** Judges and measures; what was measured of a reference before is used again. */
export class Evaluation {
  private readonly options: EvaluationOptions;
  private readonly references = new Map<string, Promise<{ judged: Reference; floor: NetworkResult['floor'] }>>();

  constructor(options: EvaluationOptions) {
    this.options = options;
  }

  /**
   * One network's measures of a set of samples.
   * @throws FileError, FormatError, ShapeError; what the signal was aborted with
   */
  async run(network: FeatureNetwork, samples: PictureSet, reference: ReferenceSet): Promise<NetworkResult> {
    const { device, metrics, signal } = this.options;
    const count = samples.dataset.length;
    const key = `${network.identity} ${count}`;
    let known = this.references.get(key);
    if (!known) {
      known = this.measureReference(network, count, reference);
      this.references.set(key, known);
    }
    const { judged, floor } = await known;
    const seen = await this.judge(network, samples, 'samples');
    const measures = await measure(device, seen, judged, metrics, signal);
    const { label, stored } = reference;
    return {
      network,
      samples: seen,
      measures,
      ...(floor && { floor }),
      reference: { label, count: stored && !stored.counted ? undefined : judged.statistics.count, judged },
      notes: notesOf(network, seen.statistics, judged.statistics),
    };
  }

  private async measureReference(
    network: FeatureNetwork,
    count: number,
    { set, stored, other }: ReferenceSet,
  ): Promise<{ judged: Reference; floor: NetworkResult['floor'] }> {
    const { device, metrics, signal } = this.options;
    if (stored || !set) return { judged: { statistics: stored!.statistics }, floor: undefined };
    const judged = await this.judge(network, set, 'reference');
    if (!this.options.floor) return { judged, floor: undefined };
    if (other) {
      const some = part(other, 0, Math.min(count, other.dataset.length));
      const seen = await this.judge(network, some, 'floor');
      const measures = await measure(device, seen, judged, metrics, signal);
      return { judged, floor: { measures, what: `${some.dataset.length} of ${other.label}` } };
    }
    const half = Math.floor(set.dataset.length / 2);
    if (half < 10) return { judged, floor: undefined };
    const first = await this.judge(network, part(set, 0, half), 'floor'),
      second = await this.judge(network, part(set, half, 2 * half), 'floor');
    const measures = await measure(device, first, second, metrics, signal);
    return { judged, floor: { measures, what: `halves of ${half} of ${set.label}` } };
  }

  private async judge(network: FeatureNetwork, set: PictureSet, noun: string): Promise<JudgedSet> {
    const { device, style, signal } = this.options;
    const progress = new Progress({ noun, total: set.dataset.length, style });
    try {
      return await judgeSet(set, { device, network, signal, onProgress: (step) => progress.update({ step }) });
    } finally {
      progress.end();
    }
  }
}
