// Add + RMSNorm / LayerNorm against the official values: outputs, residual_out and all gradients.

import type { Device } from '../../core/device.ts';
import { openDevice } from '../../core/open.ts';
import { normBackward, normForward, normPartials } from '../../kernels/add-norm/launch.ts';
import { normConfig } from '../../kernels/add-norm/config.ts';
import { emptyOperand, operand, values } from '../kernels/support.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers } from './support.ts';

const LIMIT = 1e-5;

interface NormCase {
  readonly shape: readonly number[];
  readonly norm: string;
  readonly prenorm: boolean;
  readonly eps: number;
}

family('ops/norm', (test) => {
  let device: Device;
  test.before(async () => { device = await openDevice(); });
  const settings = loadSidecar<{ cases: Record<string, NormCase> }>('ops/norm').cases;
  for (const [name, tensors] of cases(loadGolden('ops/norm'))) {
    const { shape, norm: kind, prenorm, eps } = settings[name];
    test(`${name} ${kind} (${shape.join(',')})`, async () => {
      const width = shape[shape.length - 1];
      const norm = kind.startsWith('ln') ? 'layer' : 'rms';
      const dims = { norm, width, rows: shape.reduce((a, b) => a * b, 1) / width } as const;
      const n = dims.rows * width;
      const given = (key: string): ReturnType<typeof operand> | null => (tensors.has(key) ? operand(device, numbers(need(tensors, key))) : null);
      const [x, residual, weight, bias, dy] = [operand(device, numbers(need(tensors, 'in.x'))), given('in.residual'), given('in.weight'), given('in.bias'), operand(device, numbers(need(tensors, 'in.dy')))];
      const [y, residualOut, stats] = [emptyOperand(device, n), prenorm ? emptyOperand(device, n) : null, emptyOperand(device, dims.rows * 2)];
      normForward(device, { ...dims, eps, x, residual, weight, bias, y, residualOut, stats });
      assertClose(await values(device, y), need(tensors, 'out64.y'), LIMIT, `${name} y`);
      if (residualOut) assertClose(await values(device, residualOut), need(tensors, 'out.residual_out'), LIMIT, `${name} residual_out`);

      const [dx, dweight, dbias] = [emptyOperand(device, n), weight ? emptyOperand(device, width) : null, bias ? emptyOperand(device, width) : null];
      normBackward(device, {
        ...dims, h: residualOut ?? x, residual: residualOut ? null : residual, weight, stats, dy, dresidualOut: given('in.dresidual_out'),
        dx, partial: emptyOperand(device, Math.max(1, normPartials(normConfig(device, width), dims, 2))), dweight, dbias,
      });
      assertClose(await values(device, dx), need(tensors, 'grad64.x'), LIMIT, `${name} dx`);
      if (residual) assertClose(await values(device, dx), need(tensors, 'grad64.residual'), LIMIT, `${name} dresidual`);
      if (dweight) assertClose(await values(device, dweight), need(tensors, 'grad64.weight'), LIMIT, `${name} dweight`);
      if (dbias) assertClose(await values(device, dbias), need(tensors, 'grad64.bias'), LIMIT, `${name} dbias`);
    });
  }
  test.after(() => device.destroy());
}, ['ops/norm.safetensors', 'ops/norm.json']);
