// A denoiser of one's own design, no DiS: two convolutions that are told the timestep, trained by the same Trainer on the drawn shapes, and
// sampled by the same samplers.
//
//   npx tsx examples/own-denoiser.ts

import {
  Conv2d,
  createDiffusion,
  DataLoader,
  ddim,
  Generator,
  Linear,
  Module,
  openDevice,
  shapesDataset,
  Trainer,
} from 'dis-webgpu';
import type { Denoiser, Tensor } from 'dis-webgpu';

const size = 16;
const steps = 1000;

class SmallDenoiser extends Module implements Denoiser {
  readonly config = { imgSize: size, channels: 3, numClasses: 0 };
  readonly first: Conv2d;
  readonly time: Linear;
  readonly last: Conv2d;

  constructor(random: Generator) {
    super();
    this.first = new Conv2d(random, 3, 16, 3, { padding: 1 });
    this.time = new Linear(random, 1, 16);
    this.last = new Conv2d(random, 16, 3, 3, { padding: 1 });
  }

  forward(x: Tensor, timesteps: Tensor): Tensor {
    const t = timesteps.cast('f32').div(steps).reshape(-1, 1);
    const told = this.time.forward(t).reshape(-1, 16, 1, 1);
    return this.last.forward(this.first.forward(x).add(told).silu());
  }

  matrices(): Tensor[] {
    return [];
  }
}

const device = await openDevice();
const model = new SmallDenoiser(new Generator(device, 0));
const diffusion = createDiffusion(device, { learnSigma: false });
const trainer = new Trainer({ device, model, diffusion, batchSize: 16, lr: 2e-3 });
const loader = new DataLoader(shapesDataset({ size }), { batchSize: 16 });
for await (const { step, loss } of trainer.run(loader, { steps: 60 }))
  if (step % 20 === 0) console.log(`step ${step}, loss ${loss.toFixed(3)}`);

const sampling = createDiffusion(device, { learnSigma: false, timestepRespacing: '10' });
const images = await sampling.sample((x, t) => model.forward(x, t), [2, 3, size, size], {
  sampler: ddim(),
  generator: new Generator(device, 1),
});
console.log('images', images.shape);
device.destroy();
