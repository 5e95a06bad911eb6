// The scan against the official one, results and gradients.

import * as assert from 'uvu/assert';
import { grad, openDevice, tensor, type Device, type Tensor } from '../../core/index.ts';
import { selectiveScan } from '../../kernels/selective-scan/index.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, numbers } from './support.ts';
import { transposed } from './transpose.ts';

interface Case {
  kind: string;
  delta_softplus: boolean;
}

/** Arguments with a time axis are (batch, rows, L) in the files. */
const TIMED = new Set(['u', 'delta', 'z', 'B', 'C', 'dout', 'y']);
const NAMES: Record<string, string> = { delta_bias: 'deltaBias' };

family('ops/selective_scan', (test) => {
  const settings = loadSidecar<{ cases: Record<string, Case> }>('ops/selective_scan').cases;
  let device: Device;
  test.before(async () => {
    device = await openDevice();
  });
  test.after(() => device.destroy());

  for (const [name, group] of cases(loadGolden('ops/selective_scan'))) {
    test(name, async () => {
      const { kind, delta_softplus: deltaSoftplus } = settings[name];
      const slow = kind === 'slow';
      const inputs: Record<string, Tensor> = {};
      for (const [key, entry] of group) {
        if (!key.startsWith('in.')) continue;
        const short = key.slice(3);
        const { data, shape } = TIMED.has(short)
          ? transposed(numbers(entry), entry.shape)
          : { data: Float32Array.from(numbers(entry)), shape: entry.shape };
        inputs[NAMES[short] ?? short] = tensor(device, data, { shape });
      }
      const { dout, ...rest } = inputs;
      const args = rest as { u: Tensor; delta: Tensor; A: Tensor; B: Tensor; C: Tensor };
      for (const t of Object.values(args)) t.requiresGrad_();
      const { out, lastState } = selectiveScan({ ...args, deltaSoftplus, returnLastState: true });
      const truth = (key: string): { data: Float32Array } => {
        const entry = group.get(key);
        assert.ok(entry, `${name} has ${key}`);
        const official = key.slice(key.indexOf('.') + 1);
        return TIMED.has(official)
          ? transposed(numbers(entry!), entry!.shape)
          : { data: Float32Array.from(numbers(entry!)) };
      };
      assertClose(await out.data(), truth('out64.y').data, slow ? 1e-4 : 2e-5, 'y');
      assertClose(await lastState.data(), truth('out64.last_state').data, slow ? 1e-4 : 2e-5, 'last_state');
      const names = Object.keys(args);
      const gradients = grad(out, Object.values(args), { gradient: dout });
      const official = (ours: string): string => Object.keys(NAMES).find((key) => NAMES[key] === ours) ?? ours;
      for (const [i, ours] of names.entries()) {
        assertClose(
          await gradients[i]!.data(),
          truth(`grad64.${official(ours)}`).data,
          slow ? 2e-4 : 5e-5,
          `gradient of ${ours}`,
        );
      }
    });
  }
});
