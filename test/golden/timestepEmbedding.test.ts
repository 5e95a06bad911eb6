// The sinusoidal embedding against its exact values.

import { openDevice, tensor, type Device } from '../../core/index.ts';
import { timestepEmbedding } from '../../models/dis/timestepEmbedding.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers } from './support.ts';

const LIMIT = 1e-4;

family(
  'ops/timestep_embedding',
  (test) => {
    const settings = loadSidecar<{ cases: Record<string, { dim: number; max_period: number }> }>(
      'ops/timestep_embedding',
    ).cases;
    let device: Device;
    test.before(async () => {
      device = await openDevice();
    });
    test.after(() => device.destroy());

    for (const [name, group] of cases(loadGolden('ops/timestep_embedding'))) {
      test(`${name}, width ${settings[name].dim}`, async () => {
        const t = tensor(device, Int32Array.from(numbers(need(group, 'in.t'))));
        const y = timestepEmbedding(t, settings[name].dim, { maxPeriod: settings[name].max_period });
        assertClose(await y.data(), need(group, 'out64.emb'), LIMIT, 'embedding', { measure: 'absolute' });
      });
    }
  },
  ['ops/timestep_embedding.safetensors', 'ops/timestep_embedding.json'],
);
