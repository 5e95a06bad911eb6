// The scan against the official one, results and gradients.

import { grad, tensor, type Tensor } from '../../core/index.ts';
import { selectiveScan } from '../../kernels/selective-scan/index.ts';
import type { SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { gpuFamily } from './gpu.ts';
import {
  assertClose,
  cases,
  limitOf,
  loadGolden,
  loadSidecar,
  numbers,
  truth,
  type ReferenceErrors,
} from './support.ts';
import { transposed } from './transpose.ts';

interface Sidecar extends ReferenceErrors {
  cases: Record<string, { kind: string; delta_softplus: boolean }>;
}

const PATH = 'ops/selective_scan';
/** Arguments with a time axis are (batch, rows, L) in the files. */
const TIMED = new Set(['u', 'delta', 'z', 'B', 'C', 'dout', 'y']);
const NAMES: Record<string, string> = { delta_bias: 'deltaBias' };

function values(name: string, entry: SafetensorsEntry): { data: Float32Array; shape: readonly number[] } {
  return TIMED.has(name)
    ? transposed(numbers(entry), entry.shape)
    : { data: Float32Array.from(numbers(entry)), shape: entry.shape };
}

gpuFamily(
  PATH,
  (test) => {
    const sidecar = loadSidecar<Sidecar>(PATH);
    for (const [name, group] of cases(loadGolden(PATH))) {
      const { kind, delta_softplus: deltaSoftplus } = sidecar.cases[name];
      test(`${name}, ${kind}`, async ({ device, own }) => {
        // A long memory adds up the error of every step.
        const [resultLimit, gradientLimit] = kind === 'slow' ? [1e-4, 2e-4] : [2e-5, 5e-5];
        const inputs: Record<string, Tensor> = {};
        const official: string[] = [];
        for (const [key, entry] of group) {
          if (!key.startsWith('in.')) continue;
          const short = key.slice(3);
          const { data, shape } = values(short, entry);
          inputs[NAMES[short] ?? short] = own(tensor(device, data, { shape }));
          if (short !== 'dout') official.push(short);
        }
        const { dout, ...rest } = inputs;
        const args = rest as { u: Tensor; delta: Tensor; A: Tensor; B: Tensor; C: Tensor };
        for (const t of Object.values(args)) t.requiresGrad_();
        const results = selectiveScan({ ...args, deltaSoftplus, returnLastState: true });
        const [out, lastState] = [own(results.out), own(results.lastState)];
        for (const [key, result] of [
          ['y', out],
          ['last_state', lastState],
        ] as const)
          assertClose(
            await result.data(),
            values(key, truth(group, 'out', key)).data,
            limitOf(resultLimit, sidecar, key),
            key,
          );
        const gradients = grad(out, Object.values(args), { gradient: dout }).map((g) => own(g!));
        for (const [i, key] of official.entries())
          assertClose(
            await gradients[i].data(),
            values(key, truth(group, 'grad', key)).data,
            limitOf(gradientLimit, sidecar, `grad.${key}`),
            `gradient of ${key}`,
          );
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
