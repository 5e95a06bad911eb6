// Operations in f16 against the same operations in f32 on the same numbers, forward and backward: f16 is storage, arithmetic is f32.

import * as assert from 'uvu/assert';
import { grad, scope, tensor, type Tensor } from '../../../core/index.ts';
import { gpuSuite, peakError, uniform } from '../../support.ts';
import { cases, layouts } from '../cases.ts';

const test = gpuSuite('f16');

// Differences of nearly equal numbers and rounding of the quotient at whole numbers say nothing about f16.
const leftOut = new Set(['remainder']);

for (const [position, [name, c]] of Object.entries(cases).entries()) {
  if (leftOut.has(name)) continue;
  test(name, { needs: 'shader-f16' }, async ({ device }) => {
    const layout = Object.keys(layouts)[position % 4],
      size = [7, 55, 66][position % 3];
    const { stored, view } = layouts[layout];
    const shapes = c.shapes(size);
    const results: Tensor[][] = [];
    for (const dtype of ['f16', 'f32'] as const) {
      results.push(
        scope(() => {
          const leaves = shapes.map((shape, k) => {
            const data = uniform(
              stored(shape).reduce((a, b) => a * b, 1),
              11 + k,
            ).map((u, i) => (c.at ? c.at(u, i, k) : u));
            return tensor(device, data, { shape: stored(shape), dtype: 'f16' })
              .cast(dtype)
              .detach()
              .requiresGrad_();
          });
          const out = c.fn(...leaves.map((t, k) => view(t, shapes[k])));
          const weights = tensor(device, uniform(out.numel, 5), { shape: out.shape });
          return [
            out.detach(),
            ...grad(out.cast('f32').mul(weights).sum(), leaves).map((g, k) => g ?? leaves[k].zerosLike()),
          ];
        }),
      );
    }
    const [half, full] = results;
    for (const [k, t] of half.entries()) {
      assert.is(t.dtype, name === 'cast and back' && k === 0 ? 'f32' : 'f16');
      assert.equal(t.shape, full[k].shape);
      const error = peakError(await t.data(), await full[k].data());
      // Sums of many terms that nearly cancel lose more.
      assert.ok(
        error <= (k === 0 ? 4e-3 : 2e-2),
        `${k === 0 ? 'value' : `gradient of input ${k - 1}`}: ${error.toExponential(1)} of the peak`,
      );
    }
    results.flat().forEach((t) => t.dispose());
  });
}

test.run();
