// A kernel in WGSL of one's own, with its derivative: x · |x|, whose derivative is 2 |x|.
//
//   npx tsx examples/own-kernel.ts

import { defineKernel, defineOp, gradcheck, openDevice, tensor, type Tensor } from 'dis-webgpu';
import { dense, emptyTensor, grid1d } from 'dis-webgpu/core/kit';

const kernel = defineKernel<object>('signedSquare', () => ({
  bindings: [
    { name: 'x', type: 'array<f32>', access: 'read' },
    { name: 'y', type: 'array<f32>', access: 'write' },
  ],
  params: [{ name: 'n', type: 'u32' }],
  workgroupSize: [64],
  body: `
  if (flat >= p.n) { return; }
  y[flat] = x[flat] * abs(x[flat]);`,
}));

const signedSquareOp = defineOp({
  name: 'signedSquare',
  forward({ x }: { x: Tensor }) {
    const out = emptyTensor(x.device, x.shape, 'f32');
    x.device.run(kernel, {}, [dense(x), out], [x.numel], grid1d(x.numel, 64));
    return { out, saved: { x } };
  },
  backward: (g, { x }) => ({ x: g.mul(x.abs()).mul(2) }),
});

const device = await openDevice();
const x = tensor(device, [-2, -1, 3]);
console.log(await signedSquareOp({ x }).tolist()); // [-4, -1, 9]
await gradcheck((t) => signedSquareOp({ x: t }), [x]); // throws where the derivative is wrong
console.log('the derivative is right');
device.destroy();
