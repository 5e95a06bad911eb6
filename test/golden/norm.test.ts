// Add + RMSNorm / LayerNorm against the official values: outputs, residual_out and all gradients.

import { backward, openDevice, scope, tensor, type Device, type Tensor } from '../../core/index.ts';
import { addLayerNorm, addRmsNorm } from '../../kernels/add-norm/addNorm.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers } from './support.ts';

const LIMIT = 1e-5;

interface NormCase {
  readonly norm: string;
  readonly prenorm: boolean;
  readonly eps: number;
}

family(
  'ops/norm',
  (test) => {
    let device: Device;
    test.before(async () => {
      device = await openDevice();
    });
    const settings = loadSidecar<{ cases: Record<string, NormCase> }>('ops/norm').cases;
    for (const [name, tensors] of cases(loadGolden('ops/norm'))) {
      const { norm, prenorm, eps } = settings[name];
      test(`${name} ${norm} (${need(tensors, 'in.x').shape.join(',')})`, async () => {
        const read = (key: string): Tensor =>
          tensor(device, numbers(need(tensors, `in.${key}`)), { shape: need(tensors, `in.${key}`).shape });
        const leaf = (key: string): Tensor | null => (tensors.has(`in.${key}`) ? read(key).requiresGrad_() : null);
        const x = read('x').requiresGrad_();
        const given = { residual: leaf('residual'), weight: leaf('weight'), bias: leaf('bias') };
        const op = norm.startsWith('ln') ? addLayerNorm : addRmsNorm;
        const [y, residualOut] = scope(() => {
          if (!prenorm) {
            const result = op({ x, ...given, eps });
            backward(result, { gradient: read('dy') });
            return [result, null] as const;
          }
          const result = op({ x, ...given, eps, prenorm: true });
          backward([result.y, result.residualOut], { gradient: [read('dy'), read('dresidual_out')] });
          return [result.y, result.residualOut] as const;
        });
        assertClose(await y.data(), need(tensors, 'out64.y'), LIMIT, `${name} y`);
        if (residualOut)
          assertClose(await residualOut.data(), need(tensors, 'out.residual_out'), LIMIT, `${name} residual_out`);
        for (const [key, t] of Object.entries({ x, ...given })) {
          if (t) assertClose(await t.grad!.data(), need(tensors, `grad64.${key}`), LIMIT, `${name} gradient of ${key}`);
        }
        for (const t of [x, y, residualOut, ...Object.values(given)]) t?.dispose();
      });
    }
    test.after(() => device.destroy());
  },
  ['ops/norm.safetensors', 'ops/norm.json'],
);
