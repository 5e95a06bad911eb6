// Every differentiable operation against central differences, first and second derivative, at odd sizes and in every layout: dense,
// transposed, with an offset and a step, reversed, broadcast.

import * as core from '../../../core/index.ts';
import { gradcheck, numelOf, tensor, type Tensor } from '../../../core/index.ts';
import { gpuSuite, uniform } from '../../support.ts';
import { cases, layouts, type Case } from '../cases.ts';

const test = gpuSuite('derivatives');

const SIZES = [1, 7, 55, 66, 258, 368, 1026];

function inputsOf(
  device: core.Device,
  c: Case,
  size: number,
  layout: string,
): { stored: Tensor[]; viewed: (x: Tensor[]) => Tensor[] } {
  const shapes = c.shapes(size),
    { stored, view } = layouts[layout];
  return {
    stored: shapes.map((shape, k) =>
      tensor(
        device,
        uniform(numelOf(stored(shape)), 11 + k).map((u, i) => (c.at ? c.at(u, i, k) : u)),
        { shape: stored(shape) },
      ),
    ),
    viewed: (x) => x.map((t, k) => view(t, shapes[k])),
  };
}

for (const [position, [name, c]] of Object.entries(cases).entries()) {
  test(`${name}: first derivative`, async ({ device }) => {
    // Three of the seven sizes and two layouts for each: over all operations every pair occurs many times.
    for (const [k, layout] of Object.keys(layouts).entries()) {
      const size = SIZES[(position + 3 * k) % SIZES.length];
      const { stored, viewed } = inputsOf(device, c, size, layout);
      await gradcheck((...x) => c.fn(...viewed(x)), stored, { samples: 3, eps: c.eps ?? 1e-2 });
      stored.forEach((t) => t.dispose());
    }
  });

  if (c.second === false) continue;
  test(`${name}: second derivative`, async ({ device }) => {
    const layout = Object.keys(layouts)[position % 4];
    const { stored, viewed } = inputsOf(device, c, 7, layout);
    const gradients = (...x: Tensor[]): Tensor =>
      core.enableGrad(() => {
        const leaves = x.map((t) => (t.requiresGrad ? t : t.detach().requiresGrad_()));
        const weighted = c.fn(...viewed(leaves));
        const weights = tensor(
          device,
          Float32Array.from({ length: weighted.numel }, (_, i) => Math.cos(1.3 * i)),
          { shape: weighted.shape },
        );
        const grads = core.grad(weighted.mul(weights).sum(), leaves, { createGraph: true });
        return core.concat(grads.map((g, k) => (g ?? leaves[k].zerosLike()).reshape(-1)));
      });
    await gradcheck(gradients, stored, { samples: 4, eps: c.eps ?? 1e-2 });
    stored.forEach((t) => t.dispose());
  });
}

test.run();
