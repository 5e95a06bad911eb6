// The causal convolution against the official one, results and gradients.

import { grad, tensor, type Tensor } from '../../core/index.ts';
import { causalConv1d } from '../../kernels/causal-conv1d/index.ts';
import { gpuFamily } from './gpu.ts';
import {
  assertClose,
  cases,
  limitOf,
  loadGolden,
  loadSidecar,
  need,
  numbers,
  truth,
  type ReferenceErrors,
} from './support.ts';
import { transposed } from './transpose.ts';

const PATH = 'ops/causal_conv1d';
const LIMIT = 5e-6;
/** Arguments with a time axis are (batch, rows, L) in the files. */
const TIMED = new Set(['x', 'dout', 'y']);

interface Sidecar extends ReferenceErrors {
  cases: Record<string, { activation: 'silu' | null }>;
}

gpuFamily(
  PATH,
  (test) => {
    const sidecar = loadSidecar<Sidecar>(PATH);
    for (const [name, group] of cases(loadGolden(PATH))) {
      test(name, async ({ device, own }) => {
        const values = (
          key: string,
          entry = need(group, `in.${key}`),
        ): { data: Float32Array; shape: readonly number[] } =>
          TIMED.has(key)
            ? transposed(numbers(entry), entry.shape)
            : { data: Float32Array.from(numbers(entry)), shape: entry.shape };
        const inputs: Record<string, Tensor> = {};
        for (const key of group.keys()) {
          if (!key.startsWith('in.')) continue;
          const { data, shape } = values(key.slice(3));
          inputs[key.slice(3)] = own(tensor(device, data, { shape }));
        }
        const { dout, ...rest } = inputs;
        const args = rest as { x: Tensor; weight: Tensor; bias?: Tensor };
        for (const t of Object.values(args)) t.requiresGrad_();
        const out = own(causalConv1d({ ...args, activation: sidecar.cases[name].activation }));
        assertClose(await out.data(), values('y', truth(group, 'out', 'y')).data, limitOf(LIMIT, sidecar, 'y'), 'y');
        const gradients = grad(out, Object.values(args), { gradient: dout }).map((g) => own(g!));
        for (const [i, key] of Object.keys(args).entries())
          assertClose(
            await gradients[i].data(),
            values(key, truth(group, 'grad', key)).data,
            limitOf(LIMIT, sidecar, `grad.${key}`),
            `gradient of ${key}`,
          );
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
