// The official state dict's names and order, and the distribution of its initial values.

import * as assert from 'uvu/assert';
import { Generator, openDevice, scope, type Device } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial, type DisName } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { family, loadSidecar } from './support.ts';

interface Statistics {
  shape: number[];
  mean: number;
  std: number;
  min: number;
  max: number;
}

for (const path of ['models/dis_s2_pixel32_uncond_state_dict', 'models/dis_s2_latent32_class1000_state_dict']) {
  family(
    path,
    (test) => {
      const {
        model: name,
        config,
        state_dict: expected,
      } = loadSidecar<{ model: string; config: Record<string, unknown>; state_dict: [string, number[]][] }>(path);
      let device: Device;
      test.before(async () => {
        device = await openDevice();
      });
      test.after(() => device.destroy());

      test('names, shapes and order', () => {
        const model = scope(
          () => new Dis(new Generator(device), disConfig(name as DisName, disOptionsFromOfficial(config))),
        );
        assert.equal(
          Array.from(model.stateDict(), ([parameter, { shape }]) => [parameter, [...shape]]),
          expected,
        );
      });
    },
    [`${path}.json`],
  );
}

family(
  'models/init_stats',
  (test) => {
    const { parameters } = loadSidecar<{ parameters: Record<string, Statistics> }>('models/init_stats');
    let device: Device;
    let state: ReturnType<Dis['stateDict']>;
    test.before(async () => {
      device = await openDevice();
      state = scope(
        () => new Dis(new Generator(device, 7), disConfig('DiS-S/2', { imgSize: 32, channels: 4, numClasses: 1000 })),
      ).stateDict();
    });
    test.after(() => device.destroy());

    for (const [name, expected] of Object.entries(parameters)) {
      test(name, async () => {
        const parameter = state.get(name)!;
        assert.equal([...parameter.shape], expected.shape);
        const values = await parameter.data();
        const count = values.length;
        let sum = 0,
          squares = 0,
          min = Infinity,
          max = -Infinity;
        for (const v of values) {
          sum += v;
          squares += v * v;
          min = Math.min(min, v);
          max = Math.max(max, v);
        }
        const mean = sum / count,
          std = Math.sqrt(Math.max(0, squares / count - mean ** 2));
        // Both sides are draws: six standard errors of each statistic, and the digits that the reference is rounded to.
        const slack = 1e-3 * Math.max(Math.abs(expected.min), Math.abs(expected.max));
        const standard = (6 * Math.SQRT2 * expected.std) / Math.sqrt(count);
        assert.ok(Math.abs(mean - expected.mean) <= standard + slack, `mean ${mean}, expected ${expected.mean}`);
        assert.ok(Math.abs(std - expected.std) <= standard + slack, `std ${std}, expected ${expected.std}`);
        // The ends of a uniform distribution are met ever more closely; those of a normal one are only bounded.
        const spread = name.includes('embedding_table')
          ? 0.02
          : (expected.max - expected.min) * Math.min(0.2, 12 / count) + slack;
        assert.ok(
          Math.abs(min - expected.min) <= spread && Math.abs(max - expected.max) <= spread,
          `range ${min} to ${max}, expected ${expected.min} to ${expected.max}`,
        );
      });
    }
  },
  ['models/init_stats.json'],
);
