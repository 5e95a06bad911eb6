// The official state dict's names and order, and the distribution of its initial values.

import * as assert from 'uvu/assert';
import { Generator, scope } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial, type DisName } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { configOf } from './describedConfig.ts';
import { gpuFamily } from './gpu.ts';
import { familiesOf, hasGolden, loadSidecar } from './support.ts';

interface Statistics {
  shape: number[];
  mean: number;
  std: number;
  min: number;
  max: number;
}

interface StateDict {
  model: string;
  config: Record<string, unknown>;
  state_dict: [string, number[]][];
}

for (const { path, sidecar } of familiesOf<StateDict>(
  'models',
  'state dicts',
  (s, at) => s.state_dict !== undefined && s.model !== undefined && !hasGolden(`${at}.safetensors`),
)) {
  gpuFamily(
    path,
    (test) => {
      test('names, shapes and order', ({ device, own }) => {
        const config = disConfig(sidecar.model as DisName, disOptionsFromOfficial(sidecar.config));
        const generator = own(new Generator(device));
        const model = own(scope(() => new Dis(generator, config)));
        assert.equal(
          Array.from(model.stateDict(), ([parameter, { shape }]) => [parameter, [...shape]]),
          sidecar.state_dict,
        );
      });
    },
    [`${path}.json`],
  );
}

gpuFamily(
  'models/init_stats',
  (test) => {
    const { model: description, parameters } = loadSidecar<{
      model: string;
      parameters: Record<string, Statistics>;
    }>('models/init_stats');
    let state: ReturnType<Dis['stateDict']>;
    test.before(({ device }) => {
      const config = configOf(description);
      state = scope(() => new Dis(new Generator(device, 7), config)).stateDict();
    });

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
        // The ends of a uniform distribution, which lie within √3 of its standard deviation, are met ever more closely;
        // those of a normal one only within about one of them.
        const isNormal = expected.max - expected.min > 5 * expected.std;
        const spread = isNormal ? expected.std : (expected.max - expected.min) * Math.min(0.2, 12 / count) + slack;
        assert.ok(
          Math.abs(min - expected.min) <= spread && Math.abs(max - expected.max) <= spread,
          `range ${min} to ${max}, expected ${expected.min} to ${expected.max}`,
        );
      });
    }
  },
  ['models/init_stats.json'],
);
