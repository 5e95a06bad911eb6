// Whole sampling as the official scripts do it: a DiS with classifier-free guidance, from recorded noise, captured and not.

import * as assert from 'uvu/assert';
import { Generator, openDevice, scope, type Device, type Tensor } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import { Dis, disConfig, disOptionsFromOfficial } from '../../models/dis/index.ts';
import { read } from './gpu.ts';
import { assertClose, family, loadGolden, loadSidecar, need, subset } from './support.ts';

/** By whether x_0 is clipped. */
const LIMITS = { clip0: 1e-4, clip1: 1e-3 } as const;
/** The official code guides these, whatever the model has. */
const GUIDED_CHANNELS = 3;

for (const name of ['dis_classcond_sample_loop', 'dis_latent_sample_loop']) {
  const path = `models/${name}`;
  family(
    path,
    (test) => {
      const sidecar = loadSidecar<{ model: string; num_sampling_steps: string; timestep_map: number[] }>(path);
      const golden = loadGolden(path);
      const modelPath = `models/${sidecar.model.replace('.safetensors', '')}`;
      let device: Device;
      let model: Dis;
      test.before(async () => {
        device = await openDevice();
        const { config } = loadSidecar<{ config: Record<string, unknown> }>(modelPath);
        model = scope(() => new Dis(new Generator(device), disConfig(disOptionsFromOfficial(config)))).eval();
        model.loadStateDict(subset(loadGolden(modelPath), 'param'));
      });
      test.after(() => device.destroy());

      for (const key of subset(golden, 'out64.sample').keys()) {
        const [, scale, clip] = /^scale([\d.]+)\.(clip[01])$/.exec(key)!;
        test(key, async () => {
          const diffusion = createDiffusion(device, { timestepRespacing: sidecar.num_sampling_steps });
          assert.equal([...diffusion.settings.timestepMap], sidecar.timestep_map);
          const [noise, stepNoise, labels] = ['z', 'noise', 'labels'].map((input) =>
            read(device, golden, `in.${input}`),
          );
          const guided = (x: Tensor, t: Tensor): Tensor =>
            model.forwardWithCfg(x, t, labels, Number(scale), { channels: GUIDED_CHANNELS });
          const live = device.liveTensors;
          for (const capture of [true, false]) {
            const sample = await diffusion.pSampleLoop(guided, noise.shape, {
              noise,
              stepNoise,
              clipDenoised: clip === 'clip1',
              capture,
            });
            assertClose(
              await sample.data(),
              need(golden, `out64.sample.${key}`),
              LIMITS[clip as keyof typeof LIMITS],
              `capture ${capture}`,
            );
            sample.dispose();
          }
          // The table of coefficients stays with the process.
          assert.is(device.liveTensors, live + 1, 'live tensors after the loops');
          for (const item of [diffusion, noise, stepNoise, labels]) item.dispose();
        });
      }
    },
    [`${path}.safetensors`, `${path}.json`],
  );
}
