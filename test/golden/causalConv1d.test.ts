// The causal convolution against the official one, results and gradients.

import { grad, openDevice, tensor, type Device, type Tensor } from '../../core/index.ts';
import { causalConv1d } from '../../kernels/causal-conv1d/index.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers } from './support.ts';
import { transposed } from './transpose.ts';

const LIMIT = 5e-6;
/** Arguments with a time axis are (batch, rows, L) in the files. */
const TIMED = new Set(['x', 'dout', 'y']);

family('ops/causal_conv1d', (test) => {
  const settings = loadSidecar<{ cases: Record<string, { activation: 'silu' | null }> }>('ops/causal_conv1d').cases;
  let device: Device;
  test.before(async () => {
    device = await openDevice();
  });
  test.after(() => device.destroy());

  for (const [name, group] of cases(loadGolden('ops/causal_conv1d'))) {
    test(name, async () => {
      const read = (key: string): { data: Float32Array; shape: readonly number[] } => {
        const entry = need(group, key);
        return TIMED.has(key.slice(key.indexOf('.') + 1))
          ? transposed(numbers(entry), entry.shape)
          : { data: Float32Array.from(numbers(entry)), shape: entry.shape };
      };
      const inputs: Record<string, Tensor> = {};
      for (const key of group.keys()) {
        if (!key.startsWith('in.')) continue;
        const { data, shape } = read(key);
        inputs[key.slice(3)] = tensor(device, data, { shape });
      }
      const { dout, ...rest } = inputs;
      const args = rest as { x: Tensor; weight: Tensor; bias?: Tensor };
      for (const t of Object.values(args)) t.requiresGrad_();
      const out = causalConv1d({ ...args, activation: settings[name].activation });
      assertClose(await out.data(), read('out64.y').data, LIMIT, 'y');
      const gradients = grad(out, Object.values(args), { gradient: dout });
      for (const [i, key] of Object.keys(args).entries()) {
        assertClose(await gradients[i]!.data(), read(`grad64.${key}`).data, LIMIT, `gradient of ${key}`);
      }
    });
  }
});
