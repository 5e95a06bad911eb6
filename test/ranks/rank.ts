// A rank of the tests: trains the quick start's model and says what it has in the end. Started by mpirun from run.ts.

import { createHash } from 'node:crypto';
import { openDevice } from '../../core/index.ts';
import { DataLoader, shapesDataset } from '../../models/data/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig } from '../../models/dis/index.ts';
import { Trainer } from '../../models/train/trainer.ts';
import { Generator, keep, scope } from '../../core/index.ts';
import { ownGpu } from '../../cli/distributed/ownGpu.ts';
import { Ranks } from '../../cli/distributed/ranks.ts';

interface Work {
  readonly steps: number;
  readonly batch: number;
  readonly microBatches: number;
  readonly precision: 'f32' | 'f16';
  readonly messages: boolean;
  /** Steps by themselves. */
  readonly syncEvery?: number;
}

const { steps, batch, microBatches, precision, messages, syncEvery } = JSON.parse(process.argv[2]) as Work;
await ownGpu(true);
const ranks = await Ranks.join();
ranks.polite = true;
ranks.shareMemory = !messages;
const device = await openDevice();
const generator = new Generator(device, 3);
const model = scope(() => {
  const made = new Dis(
    generator,
    disConfig('DiS-N/4', { imgSize: 16, channels: 3, numClasses: 10, learnSigma: false, classDropoutProb: 0.1 }),
  );
  for (const [, parameter] of made.namedParameters()) keep(parameter);
  return made;
});
const diffusion = createDiffusion(device, { predictXstart: true, learnSigma: false });
const trainer = new Trainer({
  device,
  model,
  diffusion,
  batchSize: batch,
  microBatches,
  precision,
  exchange: ranks,
  ...(syncEvery !== undefined && { localSteps: { every: syncEvery } }),
});
const loader = new DataLoader(shapesDataset({ size: 16 }), {
  batchSize: batch,
  part: { index: ranks.rank, of: ranks.ranks },
});
const losses: number[] = [];
for await (const { loss } of trainer.run(loader, { steps })) losses.push(loss);
const digest = createHash('sha256');
const { model: values, ema, optimizer } = await trainer.state();
for (const part of [values, ema, optimizer]) for (const [, { data }] of part) digest.update(data as Float32Array);
console.log(JSON.stringify({ rank: ranks.rank, transport: ranks.transport, digest: digest.digest('hex'), losses }));
await ranks.leave();
process.exit(0);
