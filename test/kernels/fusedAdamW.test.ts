// The fused optimizer against float64: several steps at odd sizes, every optional arena, clipping, skipped steps, loss scale.

import * as assert from 'uvu/assert';
import type { Device } from '../../core/index.ts';
import { advanceAdamW, fusedAdamW } from '../../kernels/fused-adamw/fusedAdamW.ts';
import {
  globalNorm,
  globalNormConfig,
  globalNormPartials,
  type GlobalNormConfig,
} from '../../kernels/fused-adamw/globalNorm.ts';
import {
  ADAMW_STATE_WORDS,
  adamWSettings,
  adamWState,
  adamWWord,
  type AdamWCounter,
} from '../../kernels/fused-adamw/state.ts';
import { assertClose } from '../golden/support.ts';
import { adamWReference, norm as normReference } from '../reference/adamw.ts';
import { gpuSuite, hasFeature } from '../support.ts';
import { emptyOperand, noise, operand, rounded, values as read, type TestOperand } from './support.ts';

const test = gpuSuite('fused AdamW');
let device: Device;
test.before((devices) => {
  device = devices.device;
});
const scratch = (
  arenas = 1,
  form: GlobalNormConfig = globalNormConfig(device),
): { partial: TestOperand; out: TestOperand } => ({
  partial: emptyOperand(device, globalNormPartials(form, arenas)),
  out: emptyOperand(device, 2),
});
const counter = async (state: TestOperand, name: AdamWCounter): Promise<number> =>
  (await read(device, state))[adamWWord(name)];

for (const given of [undefined, { groups: 5, shared: true }, { groups: 3, shared: false }]) {
  const title = given ? JSON.stringify(given) : 'as chosen for this adapter';
  test(`global norm, ${title}`, async () => {
    const form = given ?? globalNormConfig(device);
    for (const lengths of [[1], [7], [66, 55], [4100, 368, 1026]]) {
      const values = lengths.map((length, k) =>
        rounded(
          noise(length, k + 1).map((v) => v * 3),
          'f32',
        ),
      );
      const { partial, out } = scratch(lengths.length, form);
      globalNorm(
        device,
        values.map((g) => operand(device, g)),
        { partial, out },
        form,
      );
      const [norm, flag] = await read(device, out);
      assertClose([norm], [normReference(values.flatMap((g) => [...g]))], 1e-6, `norm of ${lengths}`);
      assert.is(flag, 0);
    }
  });

  test(`one NaN or infinity is found, ${title}`, async () => {
    const form = given ?? globalNormConfig(device);
    for (const bad of [NaN, Infinity, -Infinity]) {
      const values = noise(1026, 1);
      values[777] = bad;
      const { partial, out } = scratch(1, form);
      globalNorm(device, [operand(device, values)], { partial, out }, form);
      assert.is((await read(device, out))[1], 1, `${bad}`);
    }
  });
}

for (const length of [1, 7, 55, 66, 258, 368, 1026]) {
  test(`five steps over ${length} elements`, async () => {
    const withHalf = hasFeature(device, 'shader-f16') && length % 2 === 0;
    const options = {
      lr: 1e-2,
      betas: [0.9, 0.999],
      eps: 1e-8,
      weightDecay: 0.1,
      maxNorm: 1,
      emaDecay: 0.99,
      decayed: Math.floor(length / 3),
    } as const;
    const start = rounded(noise(length, 1), 'f32');
    const expected = {
      params: start.slice(),
      m: new Float64Array(length),
      v: new Float64Array(length),
      ema: start.slice(),
      step: 0,
    };
    const params = operand(device, start);
    const ema = operand(device, start);
    const [m, v] = [operand(device, new Float64Array(length)), operand(device, new Float64Array(length))];
    const half = withHalf ? emptyOperand(device, length, 'f16') : null;
    const state = operand(device, adamWState(options));
    const { partial, out } = scratch();
    for (let step = 0; step < 5; step++) {
      const lr = options.lr / (step + 1);
      const g = rounded(
        noise(length, 10 + step).map((x) => x * 10 ** (step - 3)),
        'f32',
      );
      const grads = operand(device, g);
      device.stream.flush();
      device.gpu.queue.writeBuffer(
        state.storage.buffer.gpu,
        0,
        adamWSettings({ ...options, lr }) as GPUAllowSharedBufferSource,
      );
      globalNorm(device, [grads], { partial, out });
      advanceAdamW(device, state, out);
      fusedAdamW(device, { state, params, grads, m, v, ema, half, decayed: options.decayed });
      adamWReference(expected, g, { ...options, lr });
      assertClose([await counter(state, 'gradNorm')], [normReference(g)], 1e-6, `norm in step ${step}`);
    }
    assert.is(await counter(state, 'step'), 5);
    assertClose(await read(device, params), expected.params, 2e-6, 'params');
    assertClose(await read(device, m), expected.m, 2e-6, 'm');
    assertClose(await read(device, v), expected.v, 2e-6, 'v');
    assertClose(await read(device, ema), expected.ema, 2e-6, 'ema');
    if (half) assertClose(await read(device, half), expected.params, 1e-3, 'half');
  });
}

test('late steps keep their bias correction', async () => {
  for (const step of [0, 9, 99, 999, 99_999]) {
    const state = operand(device, adamWState({ lr: 1 }, { step }));
    advanceAdamW(device, state);
    assertClose([await counter(state, 'stepSize')], [1 / (1 - 0.9 ** (step + 1))], 2e-6, `stepSize after ${step}`);
    assertClose(
      [await counter(state, 'rootScale')],
      [1 / Math.sqrt(1 - 0.999 ** (step + 1))],
      2e-6,
      `rootScale after ${step}`,
    );
  }
});

test('a step with gradients that are not finite changes nothing and halves the loss scale', async () => {
  const length = 66;
  const start = rounded(noise(length, 1), 'f32');
  const [params, m, v] = [
    operand(device, start),
    operand(device, new Float64Array(length)),
    operand(device, new Float64Array(length)),
  ];
  const state = operand(device, adamWState({ lr: 1, growthInterval: 2 }, { lossScale: 1024 }));
  const { partial, out } = scratch();
  const step = (grads: Float64Array): void => {
    const arena = operand(device, grads);
    globalNorm(device, [arena], { partial, out });
    advanceAdamW(device, state, out);
    fusedAdamW(device, { state, params, grads: arena, m, v });
  };
  const bad = noise(length, 2);
  bad[65] = NaN;
  step(bad);
  assert.equal(await read(device, params), start);
  assert.equal(await read(device, m), new Float64Array(length));
  assert.is(await counter(state, 'step'), 0);
  assert.is(await counter(state, 'skipped'), 1);
  assert.is(await counter(state, 'lossScale'), 512);
  step(noise(length, 3));
  step(noise(length, 4));
  assert.is(await counter(state, 'step'), 2);
  assert.is(await counter(state, 'lossScale'), 1024);
});

test('gradients carry the loss scale out again', async () => {
  const length = 8;
  const g = rounded(noise(length, 5), 'f32');
  const results: Float64Array[] = [];
  for (const lossScale of [1, 4096]) {
    const state = operand(device, adamWState({ lr: 0.1, maxNorm: 1 }, { lossScale }));
    const [params, m, v] = [
      operand(device, g),
      operand(device, new Float64Array(length)),
      operand(device, new Float64Array(length)),
    ];
    const grads = operand(
      device,
      g.map((x) => x * lossScale),
    );
    const { partial, out } = scratch();
    globalNorm(device, [grads], { partial, out });
    advanceAdamW(device, state, out);
    fusedAdamW(device, { state, params, grads, m, v });
    results.push(await read(device, params));
  }
  assertClose(results[1], results[0], 1e-6, 'params');
});

test('the state is small, and an arena of another length is named', () => {
  assert.is(ADAMW_STATE_WORDS % 4, 0);
  const [short, long] = [emptyOperand(device, 4), emptyOperand(device, 8)];
  const state = operand(device, adamWState({ lr: 1 }));
  assert.throws(
    () => fusedAdamW(device, { state, params: long, grads: short, m: long, v: long }),
    /\[fusedAdamW\] grads has 4 elements, expected the 8 of params/,
  );
});

test.run();
