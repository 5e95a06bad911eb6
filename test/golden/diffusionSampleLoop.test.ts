// Whole sampling as the official scripts do it: a DiS with classifier-free guidance, from recorded noise, captured and
// not.

import * as assert from 'uvu/assert';
import { Generator, scope, type Tensor } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig, disOptionsFromOfficial } from '../../models/dis/index.ts';
import { diffusionOptions } from './diffusionOptions.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  familiesOf,
  limitOf,
  loadGolden,
  loadSidecar,
  subset,
  truth,
  type ReferenceErrors,
} from './support.ts';

/** By whether x_0 is clipped. */
const LIMITS = { clip0: 1e-4, clip1: 1e-3 } as const;
/** The official code guides these, whatever the model has. */
const GUIDED_CHANNELS = 3;

interface Sidecar extends ReferenceErrors {
  model: string;
  num_sampling_steps: string;
  timestep_map: number[];
}

for (const { path, sidecar } of familiesOf<Sidecar>(
  'models',
  'complete sampling with guidance',
  (s) => s.num_sampling_steps !== undefined && s.model !== undefined,
)) {
  const modelPath = `models/${sidecar.model.replace(/\.safetensors$/, '')}`;
  gpuFamily(
    path,
    (test) => {
      const golden = loadGolden(path);
      let model: Dis;
      test.before(({ device }) => {
        const { config } = loadSidecar<{ config: Record<string, unknown> }>(modelPath);
        using generator = new Generator(device);
        model = scope(() => new Dis(generator, disConfig(disOptionsFromOfficial(config)))).eval();
        model.loadStateDict(subset(loadGolden(modelPath), 'param'));
      });

      for (const key of new Set(['out.sample', 'out64.sample'].flatMap((kind) => [...subset(golden, kind).keys()]))) {
        const [, scale, clip] = /^scale(-?[\d.]+)\.(clip[01])$/.exec(key)!;
        test(key, async ({ device, own }) => {
          const diffusion = own(
            createDiffusion(
              device,
              diffusionOptions({ ...sidecar, timestep_respacing: sidecar.num_sampling_steps }, sidecar.timestep_map),
            ),
          );
          assert.equal([...diffusion.settings.timestepMap], sidecar.timestep_map);
          const [noise, stepNoise, labels] = ['z', 'noise', 'labels'].map((input) =>
            own(read(device, golden, `in.${input}`)),
          );
          const guided = (x: Tensor, t: Tensor): Tensor =>
            model.forwardWithCfg(x, t, labels, Number(scale), { channels: GUIDED_CHANNELS });
          for (const capture of [true, false]) {
            const sample = await diffusion.pSampleLoop(guided, noise.shape, {
              noise,
              stepNoise,
              clipDenoised: clip === 'clip1',
              capture,
            });
            assertClose(
              await own(sample).data(),
              truth(golden, 'out', `sample.${key}`),
              limitOf(LIMITS[clip as keyof typeof LIMITS], sidecar, clip),
              `capture ${capture}`,
            );
          }
        });
      }
    },
    [`${path}.safetensors`, `${modelPath}.safetensors`, `${modelPath}.json`],
  );
}
