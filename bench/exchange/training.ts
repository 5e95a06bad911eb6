// What the benchmarks of several ranks train: DiS on images of random pixels.

import { Generator, keep, scope, type Device } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../../models/data/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig } from '../../models/dis/index.ts';
import type { GradientExchange } from '../../models/train/exchange.ts';
import { Trainer } from '../../models/train/trainer.ts';
import type { TrainingWork } from './results.ts';

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** Images of random pixels. */
function images(size: number, channels: number, numClasses: number): Dataset {
  const items = Array.from({ length: 64 }, (_, k) => ({
    pixels: Uint8Array.from({ length: size * size * channels }, (_, i) => (i * 7919 + k * 104729) % 251),
    label: k % numClasses,
  }));
  return {
    length: 1 << 16,
    size,
    channels,
    numClasses,
    classNames: [],
    item: (index) => Promise.resolve(items[index % items.length]),
  };
}

/** A trainer of a new model, and its batches. */
export function makeTraining(
  device: Device,
  { model: name, imgSize, batch, precision }: TrainingWork,
  exchange: GradientExchange | undefined,
): { readonly trainer: Trainer; readonly loader: DataLoader; dispose(): void } {
  const config = disConfig(name, { imgSize, channels: 4, numClasses: 1000 });
  const generator = new Generator(device, 3);
  const model = scope(() => {
    const made = new Dis(generator, config);
    for (const [, parameter] of made.namedParameters()) keep(parameter);
    return made;
  });
  const diffusion = createDiffusion(device);
  const trainer = new Trainer({ device, model, diffusion, batchSize: batch, precision, exchange });
  const dataset = images(imgSize, config.channels, config.numClasses);
  const { rank: index, ranks: of } = exchange ?? { rank: 0, ranks: 1 };
  const loader = new DataLoader(dataset, { batchSize: batch, part: { index, of } });
  return {
    trainer,
    loader,
    dispose() {
      for (const resource of [trainer, diffusion, model, generator]) resource.dispose();
    },
  };
}
