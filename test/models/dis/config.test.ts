import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DIS_NAMES, disConfig, disOptionsFromOfficial, disSize } from '../../../models/dis/config.ts';
import { disFlops, disSamplingMemory, disTrainingMemory } from '../../../models/dis/cost.ts';
import { disDimensions, disParameterCount, disParameterShapes, dropPathRates } from '../../../models/dis/shapes.ts';

test('names cover the ten official sizes and ours, and each makes a model', () => {
  assert.is(DIS_NAMES.length, 16);
  let last = 0;
  for (const name of DIS_NAMES.filter((n) => n.endsWith('/2'))) {
    const count = disParameterCount(disConfig(name, { imgSize: 32 }));
    assert.ok(count > last, `${name} ${count}`);
    last = count;
  }
  assert.equal(disSize('DiS-H/4'), { embedDim: 1536, depth: 48, patchSize: 4 });
});

test('options go over the name, ssm options one by one', () => {
  const config = disConfig('DiS-Ti/2', {
    imgSize: 16,
    patchSize: 4,
    numClasses: -1,
    ssm: { dState: 8 },
    skip: undefined,
  });
  assert.is(config.patchSize, 4);
  assert.is(config.numClasses, 0);
  assert.equal([config.ssm.dState, config.ssm.dConv, config.skip], [8, 4, true]);
});

test('an odd depth has the blocks of the official list', () => {
  const config = disConfig({ imgSize: 8, patchSize: 2, embedDim: 16, depth: 5, dropPathRate: 0.4 });
  assert.is(disDimensions(config).blocks, 5);
  const { blocks } = dropPathRates(config);
  [0, 0, 0.1, 0.2, 0.3].forEach((rate, i) => assert.ok(Math.abs(blocks[i] - rate) < 1e-12));
});

test('official names map to ours', () => {
  const options = disOptionsFromOfficial({
    img_size: 16,
    rms_norm: false,
    ssm_cfg: { d_state: 8, conv_bias: false },
    initializer_cfg: { n_residuals_per_layer: 2 },
    fused_add_norm: true,
    device: null,
    bimamba_type: 'v2',
  });
  assert.equal(options, { imgSize: 16, rmsNorm: false, ssm: { dState: 8, convBias: false }, residualsPerLayer: 2 });
  assert.throws(() => disOptionsFromOfficial({ bimamba_type: 'v1' }), /expected "v2"/);
  assert.throws(() => disOptionsFromOfficial({ image_size: 16 }), /unknown option imageSize/);
  assert.throws(() => disOptionsFromOfficial({ ssm_cfg: { states: 16 } }), /unknown option ssm.states/);
});

test('refuses what makes no model, naming option, value and expectation', () => {
  const cases: [object, RegExp][] = [
    [{ imgSize: 30, patchSize: 4 }, /imgSize is 30, expected a multiple of the patch size 4/],
    [{ embedDim: 1.5 }, /embedDim is 1.5, expected an integer from 1 to 16384/],
    [{ depth: 1e5 }, /depth is 100000, expected an integer from 1 to 1000/],
    [{ dropPathRate: '0.5' }, /dropPathRate is 0.5, expected a probability/],
    [{ normEpsilon: 1e300 }, /normEpsilon is 1e\+300, expected a positive number up to 1000/],
    [{ depth: 0 }, /depth is 0/],
    [{ dropPathRate: 1 }, /dropPathRate is 1, expected a probability from 0 to below 1/],
    [{ classDropoutProb: -0.1 }, /classDropoutProb is -0.1/],
    [{ rmsNorm: 'yes' }, /rmsNorm is "yes", expected true or false/],
    [{ ssm: { dConv: 5 } }, /ssm.dConv is 5, expected an integer from 2 to 4/],
    [{ ssm: { dtMin: 1, dtMax: 0.1 } }, /ssm.dtMin is 1, expected at most/],
    [{ ssm: { dtRank: 0 } }, /ssm.dtRank is 0/],
    [{ width: 7 }, /unknown option width, expected one of imgSize/],
    [{ numClasses: NaN }, /numClasses is NaN/],
  ];
  for (const [options, message] of cases)
    assert.throws(
      () => disConfig({ imgSize: 32, patchSize: 2, ...options } as never),
      message,
      JSON.stringify(options),
    );
  assert.throws(() => disConfig('DiS-S/8' as never), /unknown model "DiS-S\/8", expected one of DiS-N\/2/);
});

test('matrix products are two operations per weight and token', () => {
  const config = disConfig('DiS-S/2', { imgSize: 32, numClasses: 10 });
  const { tokens, patches } = disDimensions(config);
  let expected = 0;
  for (const [name, shape] of disParameterShapes(config)) {
    const size = shape.reduce((product, n) => product * n, 1);
    if (/embedding_table|pos_embed|conv1d|A_|\.D|norm/.test(name)) continue;
    const rows = /patch_embed/.test(name) ? patches : /time_embed|adaLN/.test(name) ? 1 : tokens;
    if (name.endsWith('weight')) expected += 2 * rows * size;
    else if (!/dt_proj/.test(name)) expected += rows * size;
  }
  assert.is(disFlops(config).matmul, expected);
});

test('operations grow with the tokens, and the scan is counted', () => {
  const at = (imgSize: number): ReturnType<typeof disFlops> => disFlops(disConfig('DiS-S/2', { imgSize }));
  const { total, scan, conv, norm, matmul, elementwise } = at(32);
  assert.is(total, scan + conv + norm + matmul + elementwise);
  assert.is(scan, 25 * 2 * 257 * 736 * (7 * 16 + 12));
  assert.is(conv, 25 * 2 * 257 * 736 * 12);
  assert.ok(Math.abs(at(64).total / total - 1025 / 257) < 0.01);
});

test('memory: 20 bytes per parameter in training, less activations with recomputation and f16', () => {
  const config = disConfig('DiS-B/2', { imgSize: 32 });
  const full = disTrainingMemory(config, { batch: 8 });
  assert.is(full.parameters + full.gradients + full.optimizer + full.ema, 20 * disParameterCount(config));
  assert.is(disTrainingMemory(config, { batch: 16 }).activations, 2 * full.activations);
  const less = disTrainingMemory(config, { batch: 8, recompute: true }).activations;
  assert.ok(less < full.activations / 4);
  assert.ok(disTrainingMemory(config, { batch: 8, precision: 'f16' }).activations < 0.62 * full.activations);
  assert.ok(disSamplingMemory(config, { batch: 8 }).total < less + 4 * disParameterCount(config));
});

test.run();
