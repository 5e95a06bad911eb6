// Sizes of the official configurations and the ordered state dicts of every model in the reference set.

import * as assert from 'uvu/assert';
import { DIS_DEFAULTS, disConfig, disOptionsFromOfficial, type DisName } from '../../models/dis/config.ts';
import { disDimensions, disParameterCount, disParameterShapes, dropPathRates } from '../../models/dis/shapes.ts';
import { configOf } from './describedConfig.ts';
import { familiesOf, family, loadSidecar } from './support.ts';

interface Variant {
  params: number;
  tensors: number;
  by_top_level_name: Record<string, number>;
  seq_len: number;
}
interface ConfigsSidecar {
  configs: Record<string, Record<string, unknown>>;
  defaults: Record<string, unknown>;
}
interface ModelSidecar {
  model?: string;
  config: Record<string, unknown>;
  state_dict?: [string, number[]][];
  sorted_names?: string[];
  param_count?: number;
  extras?: number;
}

family(
  'models/configs',
  (test) => {
    const { configs, defaults } = loadSidecar<ConfigsSidecar>('models/configs');
    for (const [name, expected] of Object.entries(configs)) {
      test(name, () => {
        for (const [variant, value] of Object.entries(expected)) {
          const setting = /^(pixel|latent)(\d+)_(uncond|class(\d+))$/.exec(variant);
          if (!setting) continue;
          const { params, tensors, by_top_level_name: parts, seq_len } = value as Variant;
          const config = disConfig(name as DisName, {
            imgSize: Number(setting[2]),
            channels: setting[1] === 'latent' ? 4 : 3,
            numClasses: Number(setting[4] ?? 0),
          });
          const dims = disDimensions(config);
          assert.is(disParameterCount(config), params, variant);
          assert.is(dims.tokens, seq_len);
          const shapes = disParameterShapes(config);
          assert.is(shapes.length, tensors);
          const counted: Record<string, number> = {};
          for (const [parameter, shape] of shapes) {
            const top = parameter.split('.')[0];
            counted[top] = (counted[top] ?? 0) + shape.reduce((product, size) => product * size, 1);
          }
          assert.equal(counted, parts);
          const own = {
            patch_size: config.patchSize,
            embed_dim: config.embedDim,
            depth: config.depth,
            blocks: dims.blocks,
            d_inner: dims.dInner,
            dt_rank: dims.dtRank,
            d_state: dims.dState,
            d_conv: dims.dConv,
          };
          for (const [key, size] of Object.entries(own)) assert.is(size, expected[key], key);
        }
      });
    }
    test('defaults are the official ones', () => {
      const { d_state, d_conv, expand, dt_rank: _rule, ...rest } = defaults;
      assert.equal(
        [DIS_DEFAULTS.ssm.dState, DIS_DEFAULTS.ssm.dConv, DIS_DEFAULTS.ssm.expand],
        [d_state, d_conv, expand],
      );
      const options = disOptionsFromOfficial(rest);
      for (const [key, value] of Object.entries(options))
        assert.equal(DIS_DEFAULTS[key as keyof typeof DIS_DEFAULTS], value, key);
    });
  },
  ['models/configs.json'],
);

for (const { path, sidecar } of familiesOf<ModelSidecar>(
  'models',
  'parameter names',
  (s) => s.config !== undefined && (s.state_dict ?? s.sorted_names) !== undefined,
)) {
  family(
    path,
    (test) => {
      test('parameter names, order and shapes', () => {
        const options = disOptionsFromOfficial(sidecar.config);
        const config = sidecar.model ? disConfig(sidecar.model as DisName, options) : disConfig(options);
        const shapes = disParameterShapes(config);
        if (sidecar.state_dict) assert.equal(shapes, sidecar.state_dict);
        if (sidecar.sorted_names) assert.equal(shapes.map(([name]) => name).sort(), sidecar.sorted_names);
        if (sidecar.param_count) assert.is(disParameterCount(config), sidecar.param_count);
        if (sidecar.extras) assert.is(disDimensions(config).extras, sidecar.extras);
      });
    },
    [`${path}.json`],
  );
}

family(
  'models/init_stats',
  (test) => {
    const sidecar = loadSidecar<{ model: string } & Record<string, unknown>>('models/init_stats');
    for (const [key, value] of Object.entries(sidecar)) {
      // The key ends in the rate: …_drop0_1 is 0.1.
      const rate = /^block_drop_path_rates_drop(\d+)_(\d+)$/.exec(key);
      if (!rate) continue;
      const dropPathRate = Number(`${rate[1]}.${rate[2]}`);
      test(`drop-path rates up to ${dropPathRate}`, () => {
        const expected = value as number[];
        const { blocks, final } = dropPathRates(configOf(sidecar.model, { dropPathRate }));
        assert.is(blocks.length, expected.length);
        blocks.forEach((own, i) =>
          assert.ok(Math.abs(own - expected[i]) < 1e-7, `block ${i}: ${own}, reference ${expected[i]}`),
        );
        assert.is(final, dropPathRate);
      });
    }
  },
  ['models/init_stats.json'],
);
