// Sizes of the official configurations and the ordered state dicts of every model in the reference set.

import { readdirSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { DIS_DEFAULTS, disConfig, disOptionsFromOfficial, type DisName } from '../../models/dis/config.ts';
import { disDimensions, disParameterCount, disParameterShapes, dropPathRates } from '../../models/dis/shapes.ts';
import { family, goldenPath, hasGolden, loadSidecar } from './support.ts';

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
  config?: Record<string, unknown>;
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

const described = hasGolden('models')
  ? readdirSync(goldenPath('models'))
      .filter((file) => /\.json$/.test(file))
      .sort()
  : [];
for (const file of described) {
  const sidecar = loadSidecar<ModelSidecar>(`models/${file}`);
  if (!sidecar.config || !(sidecar.state_dict || sidecar.sorted_names)) continue;
  family(
    `models/${file.replace('.json', '')}`,
    (test) => {
      test('parameter names, order and shapes', () => {
        const options = disOptionsFromOfficial(sidecar.config!);
        const config = sidecar.model ? disConfig(sidecar.model as DisName, options) : disConfig(options);
        const shapes = disParameterShapes(config);
        if (sidecar.state_dict) assert.equal(shapes, sidecar.state_dict);
        if (sidecar.sorted_names) assert.equal(shapes.map(([name]) => name).sort(), sidecar.sorted_names);
        if (sidecar.param_count) assert.is(disParameterCount(config), sidecar.param_count);
        if (sidecar.extras) assert.is(disDimensions(config).extras, sidecar.extras);
      });
    },
    [`models/${file}`],
  );
}

family(
  'models/init_stats',
  (test) => {
    test('drop-path rates of DiS-S', () => {
      const { block_drop_path_rates_drop0_1: expected } = loadSidecar<{ block_drop_path_rates_drop0_1: number[] }>(
        'models/init_stats',
      );
      const { blocks, final } = dropPathRates(disConfig('DiS-S/2', { imgSize: 32, dropPathRate: 0.1 }));
      assert.is(blocks.length, expected.length);
      blocks.forEach((rate, i) =>
        assert.ok(Math.abs(rate - expected[i]) < 1e-7, `block ${i}: ${rate}, reference ${expected[i]}`),
      );
      assert.is(final, 0.1);
    });
  },
  ['models/init_stats.json'],
);
