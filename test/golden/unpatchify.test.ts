// Tokens to pictures, exactly.

import * as assert from 'uvu/assert';
import { scope } from '../../core/index.ts';
import { patchify, unpatchify } from '../../models/dis/patchEmbed.ts';
import { gpuFamily, read } from './gpu.ts';
import { cases, loadGolden, need, numbers } from './support.ts';

const PATH = 'ops/unpatchify';

gpuFamily(PATH, (test) => {
  for (const [name, group] of cases(loadGolden(PATH))) {
    test(name, async ({ device, own }) => {
      const [, channels, height] = need(group, 'out.y').shape;
      const [y, again] = scope(() => {
        const x = read(device, group, 'in.x');
        const patchSize = height / Math.sqrt(x.shape[1]);
        const pixels = unpatchify(x, patchSize, channels);
        // The order of a convolution's weight has the channels outermost.
        const rows = patchify(pixels, patchSize)
          .reshape(...x.shape.slice(0, 2), channels, patchSize ** 2)
          .transpose(2, 3)
          .reshape(...x.shape);
        return [pixels, rows];
      }).map(own);
      assert.equal([...(await y.data())], numbers(need(group, 'out.y')));
      assert.equal([...(await again.data())], numbers(need(group, 'in.x')));
    });
  }
});
