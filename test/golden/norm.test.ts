// Add + RMSNorm / LayerNorm against the official values: outputs, residual_out and all gradients.

import { backward, scope, type Tensor } from '../../core/index.ts';
import { addLayerNorm, addRmsNorm } from '../../kernels/add-norm/addNorm.ts';
import { gpuFamily, read } from './gpu.ts';
import { assertClose, cases, limitOf, loadGolden, loadSidecar, need, truth, type ReferenceErrors } from './support.ts';

const PATH = 'ops/norm';
const LIMIT = 1e-5;

interface Sidecar extends ReferenceErrors {
  cases: Record<string, { readonly norm: string; readonly prenorm: boolean; readonly eps: number }>;
}

gpuFamily(
  PATH,
  (test) => {
    const sidecar = loadSidecar<Sidecar>(PATH);
    for (const [name, group] of cases(loadGolden(PATH))) {
      const { norm, prenorm, eps } = sidecar.cases[name];
      test(`${name} ${norm} (${need(group, 'in.x').shape.join(',')})`, async ({ device, own }) => {
        const given = (key: string): Tensor => own(read(device, group, `in.${key}`));
        const leaf = (key: string): Tensor | null => (group.has(`in.${key}`) ? given(key).requiresGrad_() : null);
        const x = given('x').requiresGrad_();
        const others = { residual: leaf('residual'), weight: leaf('weight'), bias: leaf('bias') };
        const op = norm.startsWith('ln') ? addLayerNorm : addRmsNorm;
        const results = scope((): Record<string, Tensor> => {
          if (!prenorm) {
            const y = op({ x, ...others, eps });
            backward(y, { gradient: given('dy') });
            return { y };
          }
          const { y, residualOut } = op({ x, ...others, eps, prenorm: true });
          backward([y, residualOut], { gradient: [given('dy'), given('dresidual_out')] });
          return { y, residual_out: residualOut };
        });
        for (const [key, result] of Object.entries(results))
          assertClose(await own(result).data(), truth(group, 'out', key), limitOf(LIMIT, sidecar, key), key);
        for (const [key, t] of Object.entries({ x, ...others })) {
          if (!t) continue;
          const limit = limitOf(LIMIT, sidecar, `grad.${key}`);
          assertClose(await own(t.grad!).data(), truth(group, 'grad', key), limit, `gradient of ${key}`);
        }
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
