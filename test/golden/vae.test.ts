// The autoencoder against diffusers': moments, a sample with recorded noise, and decoded pictures, for every family of the folder; both
// namings of the attention's weights.

import * as assert from 'uvu/assert';
import { Generator, noGrad, scope } from '../../core/index.ts';
import { AutoencoderKL, fromDiffusers, vaeShapes, type DiffusersVae } from '../../models/vae/index.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  familiesOf,
  hasGolden,
  limitOf,
  loadGolden,
  loadSidecar,
  reportAbsent,
  truth,
  type ReferenceErrors,
} from './support.ts';

const LIMIT = 5e-5;

interface Sidecar extends ReferenceErrors {
  param_count: number;
  state_dict: [name: string, shape: number[]][];
}

reportAbsent('vae');
for (const { path, sidecar } of familiesOf<Sidecar>('vae', 'autoencoders', (s) => s.state_dict !== undefined)) {
  const weights = [`${path}_weights`, `${path}_weights_deprecated_names`].filter((file) =>
    hasGolden(`${file}.safetensors`),
  );
  gpuFamily(
    path,
    (test) => {
      const config = fromDiffusers(loadSidecar<DiffusersVae>(`${path}_config`));
      test('has the names and shapes of its configuration', ({ device, own }) => {
        const model = scope(() => new AutoencoderKL(own(new Generator(device)), config));
        own(model);
        const sorted = (list: Iterable<readonly [string, readonly number[]]>): [string, readonly number[]][] =>
          Array.from(list, ([name, shape]): [string, readonly number[]] => [name, shape]).sort(([a], [b]) =>
            a < b ? -1 : 1,
          );
        assert.equal(sorted(vaeShapes(config)), sorted(sidecar.state_dict!));
        assert.equal(sorted([...model.stateDict()].map(([name, t]) => [name, t.shape])), sorted(sidecar.state_dict!));
        assert.is(model.parameterCount(), sidecar.param_count);
      });
      for (const file of weights)
        test(`${file}: moments, sample and pictures`, async ({ device, own }) => {
          const io = loadGolden(`${path}_io`);
          const model = scope(() => new AutoencoderKL(own(new Generator(device)), config));
          own(model).loadStateDict(loadGolden(file));
          const results = noGrad(() =>
            scope(() => {
              const posterior = model.encode(read(device, io, 'in.image'));
              const sample = posterior.sample(read(device, io, 'in.posterior_noise'));
              return {
                mean: posterior.mean,
                logvar: posterior.logvar,
                std: posterior.std(),
                sample,
                decoded_z: model.decode(read(device, io, 'in.z')),
                reconstruction: model.decode(sample),
              };
            }),
          );
          for (const t of Object.values(results)) own(t);
          for (const [name, t] of Object.entries(results))
            assertClose(await t.data(), truth(io, 'out', name), limitOf(LIMIT, sidecar as Sidecar, name), name);
        });
    },
    [`${path}_config.json`, `${path}_io.safetensors`, `${path}_weights.safetensors`],
  );
}
