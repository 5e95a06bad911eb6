// One rank with exchange against none: steps of two trainers of one process in turn, blocks of them, so that what else
// the machine does meets both. The last line is their ratio.
//
//   node --import tsx bench/exchange/one.ts [DiS-S/2] [batch] [f32|f16]

import { openDevice } from '../../core/index.ts';
import { ownGpu } from '../../cli/distributed/ownGpu.ts';
import { Ranks } from '../../cli/distributed/ranks.ts';
import { makeTraining, median } from './training.ts';
import type { TrainingWork } from './results.ts';

/** Blocks of each, steps in a block, and those before the first that compile and warm up. */
const BLOCKS = 16,
  STEPS = 8,
  WARM = 4;

const [model = 'DiS-S/2', batch = '64', precision = 'f32', imgSize = '32'] = process.argv.slice(2);
const work = { model, imgSize: Number(imgSize), batch: Number(batch), precision } as TrainingWork;
await ownGpu(true);
const ranks = await Ranks.join();
// As training does: signs of life are a part of what a rank costs.
ranks.watch((error) => {
  throw error;
});
const device = await openDevice({ tier: precision === 'f16' ? 'fast' : 'stock' });
const both = [makeTraining(device, work, ranks), makeTraining(device, work, undefined)];
const times: [number[], number[]] = [[], []];
for (let block = -1; block < BLOCKS; block++)
  for (const k of block % 2 ? [1, 0] : [0, 1]) {
    const { trainer, loader } = both[k];
    await device.synchronize();
    const began = performance.now();
    const steps = trainer.step + (block < 0 ? WARM : STEPS);
    for await (const _ of trainer.run(loader, { steps }));
    await device.synchronize();
    if (block >= 0) times[k].push((performance.now() - began) / STEPS);
  }
for (const { dispose } of both) dispose();
await ranks.leave();
const [with_, without] = times.map(median);
const ratios = times[0].map((time, block) => time / times[1][block]);
console.log(
  `${device.adapter.device}, ${model}, batch ${batch}, ${precision}, medians of ${BLOCKS} blocks of ${STEPS} steps in turn`,
);
console.log(`one rank with exchange ${with_.toFixed(2)} ms a step, none ${without.toFixed(2)} ms`);
console.log(
  `ratio ${median(ratios).toFixed(4)}, of blocks ${Math.min(...ratios).toFixed(3)} to ${Math.max(...ratios).toFixed(3)}`,
);
process.exit(0);
