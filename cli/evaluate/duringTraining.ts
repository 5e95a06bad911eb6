// Evaluations of a run while it trains: the same samples' seeds each time, so that the numbers can be compared.

import type { Device } from '../../core/index.ts';
import type { Channels } from '../../models/data/channels.ts';
import { batchToPixels } from '../../models/data/grid.ts';
import { hash32 } from '../../models/data/hash.ts';
import {
  featureStatistics,
  frechetDistance,
  judgePictures,
  kernelDistance,
  type FeatureNetwork,
} from '../../models/evaluate/index.ts';
import { sampleImages } from '../../models/sample/index.ts';
import type { BuiltModel } from '../modelKinds/index.ts';
import type { RunConfig } from '../runConfig.ts';
import { EVAL_KEY } from '../training.ts';
import { judgeSet, type JudgedSet } from './judgedSets.ts';
import { measureName } from './measures.ts';
import { checkNetworks, openNetwork } from './networks.ts';
import { openPictureSet, part, type PictureSet } from './pictureSets.ts';
import { otherSplit } from './sampledSet.ts';

export interface TrainingEvaluationOptions {
  readonly device: Device;
  readonly config: RunConfig;
}

export interface TrainingMeasure {
  /** `FD(classifier)`. */
  readonly name: string;
  readonly value: number;
  /** Of the data's other split against the reference. */
  readonly floor: number;
  readonly samples: number;
}

interface Prepared {
  readonly network: FeatureNetwork;
  readonly reference: JudgedSet;
  readonly labels: (i: number) => Promise<number>;
  readonly floor: number;
}

/** Network and reference are made when they are first needed; the caller disposes of them. */
export class TrainingEvaluation {
  private readonly options: TrainingEvaluationOptions;
  private prepared: Prepared | undefined;

  /** @throws UsageError where the network can't be had */
  constructor(options: TrainingEvaluationOptions) {
    this.options = options;
    const { model, plan } = options.config;
    checkNetworks([plan.evalNetwork ?? 'classifier'], { classes: model.numClasses });
  }

  /**
   * Draws samples of a model and measures them.
   * @throws FileError, FormatError, ValueError; what the signal was aborted with
   */
  async measure(model: BuiltModel, signal: AbortSignal): Promise<TrainingMeasure> {
    const { device, config } = this.options;
    const { plan, settings } = config;
    const { network, reference, labels, floor } = (this.prepared ??= await this.prepare(signal));
    const count = plan.evalSamples ?? 1000;
    const rows = await Promise.all(Array.from({ length: count }, (_, i) => labels(i)));
    const { numClasses, classDropoutProb, channels, imgSize } = config.model;
    const { images } = await sampleImages({
      device,
      model,
      diffusion: config.diffusion,
      ...(numClasses > 0 ? { labels: rows } : { count }),
      guidance: classDropoutProb > 0 ? plan.guidance : 1,
      steps: Math.min(plan.sampleSteps, settings.diffusionSteps),
      seed: hash32(settings.seed, EVAL_KEY),
      batch: Math.min(count, device.adapter.software ? 64 : 256),
      signal,
    });
    const pixels = batchToPixels(images);
    const drawn = {
      ...{ length: count, size: imgSize, channels, numClasses, classNames: config.classNames },
      item: (i: number) => ({ pixels: pixels[i].data, label: rows[i] }),
    };
    const { features } = await judgePictures(device, network, drawn, { signal });
    const seen = { features, statistics: await featureStatistics(device, features, { signal }) };
    const value = await this.distance(seen, reference, signal);
    return { name: measureName(network, plan.evalMetric === 'kid' ? 'KID' : 'FD'), value, floor, samples: count };
  }

  private async distance(samples: JudgedSet, reference: JudgedSet, signal: AbortSignal): Promise<number> {
    const { device, config } = this.options;
    return config.plan.evalMetric === 'kid'
      ? (await kernelDistance(device, samples.features, reference.features, { signal })).mean
      : frechetDistance(samples.statistics, reference.statistics, { signal });
  }

  private async prepare(signal: AbortSignal): Promise<Prepared> {
    const { device, config } = this.options;
    const { settings, model, plan } = config;
    const { data, unlabelled, background, cifarLabels } = settings;
    const trained = settings.split ?? 'train';
    const open = (split: typeof trained | undefined): Promise<PictureSet> =>
      openPictureSet(data, {
        ...{ size: model.imgSize, channels: model.channels as Channels, unlabelled, background, cifarLabels },
        ...{ split, signal },
      });
    const own = await open(settings.split);
    const other = own.splits ? await open(otherSplit(trained)) : own;
    const network = await openNetwork(plan.evalNetwork ?? 'classifier', {
      device,
      training: () => Promise.resolve(own),
      classifierSteps: CLASSIFIER_STEPS,
      style: 'none',
      signal,
    });
    try {
      const count = plan.evalSamples ?? 1000;
      const judge = (set: PictureSet): Promise<JudgedSet> =>
        judgeSet(set, { device, network, signal, onProgress: () => undefined });
      const most = Math.min(other.dataset.length, MOST_REFERENCE);
      // A folder of pictures has one split: its halves are what the floor is measured between.
      const reference = await judge(part(other, 0, own.splits ? most : Math.ceil(most / 2)));
      const rest = own.splits
        ? part(own, 0, Math.min(count, own.dataset.length))
        : part(own, Math.ceil(most / 2), most);
      const floor = await this.distance(await judge(rest), reference, signal);
      return {
        network,
        reference,
        floor,
        labels: async (i) => (await other.dataset.item(i % other.dataset.length)).label,
      };
    } catch (error) {
      network.dispose();
      throw error;
    }
  }

  dispose(): void {
    this.prepared?.network.dispose();
    this.prepared = undefined;
  }
}

/** As `dis-cli eval` trains it, so that the same one is used. */
const CLASSIFIER_STEPS = 1000;

/** Enough to tell checkpoints apart, and done soon. */
const MOST_REFERENCE = 10_000;
