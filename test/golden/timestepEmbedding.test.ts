// The sinusoidal embedding against its exact values.

import { timestepEmbedding } from '../../models/dis/timestepEmbedding.ts';
import { gpuFamily, read } from './gpu.ts';
import { assertClose, cases, loadGolden, loadSidecar, need } from './support.ts';

const PATH = 'ops/timestep_embedding';
const LIMIT = 1e-4;

gpuFamily(
  PATH,
  (test) => {
    const settings = loadSidecar<{ cases: Record<string, { dim: number; max_period: number }> }>(PATH).cases;
    for (const [name, group] of cases(loadGolden(PATH))) {
      const { dim, max_period: maxPeriod } = settings[name];
      test(`${name}, width ${dim}`, async ({ device, own }) => {
        const y = own(timestepEmbedding(own(read(device, group, 'in.t')), dim, { maxPeriod }));
        assertClose(await y.data(), need(group, 'out64.emb'), LIMIT, 'embedding', { measure: 'absolute' });
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
