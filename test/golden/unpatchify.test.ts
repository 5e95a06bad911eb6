// Tokens to pictures, exactly.

import * as assert from 'uvu/assert';
import { openDevice, scope, type Device } from '../../core/index.ts';
import { patchify, unpatchify } from '../../models/dis/patchEmbed.ts';
import { read } from './gpu.ts';
import { cases, family, loadGolden } from './support.ts';

const PATH = 'ops/unpatchify';

family(PATH, (test) => {
  let device: Device;
  test.before(async () => {
    device = await openDevice();
  });
  test.after(() => device.destroy());

  for (const [name, group] of cases(loadGolden(PATH))) {
    test(name, async () => {
      const [y, again] = scope(() => {
        const x = read(device, group, 'in.x');
        const [, channels, height] = read(device, group, 'out.y').shape;
        const patchSize = height / Math.sqrt(x.shape[1]);
        const pixels = unpatchify(x, patchSize, channels);
        // The order of a convolution's weight has the channels outermost.
        const rows = patchify(pixels, patchSize)
          .reshape(...x.shape.slice(0, 2), channels, patchSize ** 2)
          .transpose(2, 3)
          .reshape(...x.shape);
        return [pixels, rows];
      });
      assert.equal([...(await y.data())], [...(group.get('out.y')!.data as Float32Array)]);
      assert.equal([...(await again.data())], [...(group.get('in.x')!.data as Float32Array)]);
    });
  }
});
