import * as assert from 'uvu/assert';
import { full, scope, tensor, zeros, type Tensor } from '../../core/index.ts';
import { gatherGradients } from '../../kernels/index.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('gatherGradients');

for (const add of [false, true]) {
  for (const dtype of ['f32', 'f16'] as const) {
    test(`${add ? 'adds' : 'writes'} ${dtype} gradients of any number, size and alignment`, async ({ device }) => {
      if (dtype === 'f16' && !device.has('shader-f16')) return;
      const lengths = [8, 7, 1, 64, 260, 3, 12, 16, 5, 100, 4, 368, 0, 44, 9];
      // Quarters are exact in f16.
      const values = lengths.map((length, k) => uniform(length, k + 1).map((v) => Math.round(v * 64) / 4));
      const expected = new Float32Array(3000).fill(0.5);
      const arena = full(device, [3000], 0.5);
      scope(() => {
        const wide = tensor(device, uniform(600), { dtype });
        let offset = 3;
        const places = values.map((v, k) => {
          offset += k % 2 ? 1 : 5 - (offset % 4);
          let gradient: Tensor = tensor(device, v, { dtype });
          if (k === 4 || k === 5) {
            // In the middle of another tensor's memory.
            const begin = k === 4 ? 4 : 301;
            gradient = wide.slice(0, begin, begin + lengths[k]);
            gradient.copy_(tensor(device, v, { dtype }));
          }
          v.forEach((x, i) => {
            expected[offset + i] = x + (add ? 0.5 : 0);
          });
          const place = { gradient, offset };
          offset += v.length;
          return place;
        });
        gatherGradients(device, arena, places, { add });
      });
      assert.equal([...(await arena.data())], [...expected]);
      arena.dispose();
    });
  }
}

test('gradients that lie apart or leave the arena are refused', ({ device }) => {
  scope(() => {
    const arena = zeros(device, [16]);
    assert.throws(
      () => gatherGradients(device, arena, [{ gradient: zeros(device, [2, 3]).T, offset: 0 }]),
      /\[gatherGradients\] A gradient of shape \(3,2\) has strides \(1,3\), expected rows/,
    );
    assert.throws(
      () => gatherGradients(device, arena, [{ gradient: zeros(device, [6]), offset: 12 }]),
      /\[gatherGradients\] A gradient of shape \(6,\) at 12 leaves the arena of 16 elements/,
    );
  });
});

test.run();
