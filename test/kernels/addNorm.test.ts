// The add + norm kernels against float64, in every form that a tuner may choose, at odd sizes, f32 and f16.

import * as assert from 'uvu/assert';
import { backward, grad, scope, tensor, zeros, type Device, type FloatDType, type Tensor } from '../../core/index.ts';
import { addLayerNorm, addRmsNorm } from '../../kernels/add-norm/addNorm.ts';
import { normBackward, normForward, normPartials } from '../../kernels/add-norm/launch.ts';
import { normConfig, normConfigs, type NormConfig } from '../../kernels/add-norm/config.ts';
import { assertClose } from '../golden/support.ts';
import { addNormGradReference, addNormReference } from '../reference/norm.ts';
import { gpuSuite, hasFeature } from '../support.ts';
import { emptyOperand, noise, operand, rounded, values } from './support.ts';

const test = gpuSuite('add + norm');
let device: Device;
test.before((devices) => {
  device = devices.device;
});

interface Case {
  readonly norm: 'rms' | 'layer';
  readonly rows: number;
  readonly width: number;
  readonly type?: FloatDType;
  readonly residual?: boolean;
  readonly weight?: boolean;
  readonly bias?: boolean;
  readonly residualOut?: boolean;
  readonly offset?: number;
}

async function check(c: Case, config: NormConfig): Promise<void> {
  const {
    norm,
    rows,
    width,
    type = 'f32',
    residual = true,
    weight = true,
    bias = true,
    residualOut = true,
    offset = 0,
  } = c;
  const label = `${norm} ${rows}x${width} ${type} ${JSON.stringify(config)}`;
  const eps = 1e-5;
  const n = rows * width;
  const x = rounded(
    noise(n, 1).map((v) => v * 2 + offset),
    type,
  );
  const r = residual ? rounded(noise(n, 2), 'f32') : null;
  const w = weight
    ? rounded(
        noise(width, 3).map((v) => 1 + v / 2),
        'f32',
      )
    : null;
  const b = bias ? rounded(noise(width, 4), 'f32') : null;
  const up = rounded(noise(n, 5), type);
  const upOut = residualOut ? rounded(noise(n, 6), 'f32') : null;
  const maybe = (array: Float64Array | null): ReturnType<typeof operand> | null =>
    array ? operand(device, array) : null;
  const given = { x: operand(device, x, type), residual: maybe(r), weight: maybe(w), bias: maybe(b) };
  const y = emptyOperand(device, n, type);
  const out = residualOut ? emptyOperand(device, n) : null;
  const stats = emptyOperand(device, rows * 2);
  normForward(device, { norm, rows, width, eps, ...given, y, residualOut: out, stats }, config);
  const input = { norm, rows, width, eps, x, residual: r, weight: w, bias: b };
  const expected = addNormReference(input);
  const limit = type === 'f16' ? 2e-3 : 1e-5;
  assertClose(await values(device, y), expected.y, limit, `y of ${label}`);
  if (out) assertClose(await values(device, out), expected.residualOut, 1e-6, `residualOut of ${label}`);

  const dx = emptyOperand(device, n, type);
  const dresidual = residual && type === 'f16' && residualOut ? emptyOperand(device, n) : null;
  const dweight = weight ? emptyOperand(device, width) : null;
  const dbias = bias ? emptyOperand(device, width) : null;
  const shape = { norm, rows, width };
  const partial = emptyOperand(device, Math.max(1, normPartials(config, shape, Number(weight) + Number(bias))));
  normBackward(
    device,
    {
      ...shape,
      h: out ?? given.x,
      residual: out ? null : given.residual,
      weight: given.weight,
      stats,
      dy: operand(device, up, type),
      dresidualOut: maybe(upOut),
      dx,
      dresidual,
      partial,
      dweight,
      dbias,
    },
    config,
  );
  const grad = addNormGradReference(input, up, upOut);
  assertClose(await values(device, dx), grad.dx, type === 'f16' ? 2e-3 : 2e-5, `dx of ${label}`);
  if (dresidual) assertClose(await values(device, dresidual), grad.dx, 2e-5, `dresidual of ${label}`);
  if (dweight) assertClose(await values(device, dweight), grad.dweight, 2e-5, `dweight of ${label}`);
  if (dbias) assertClose(await values(device, dbias), grad.dbias, 2e-5, `dbias of ${label}`);
  for (const o of [
    given.x,
    given.residual,
    given.weight,
    given.bias,
    y,
    out,
    stats,
    dx,
    dresidual,
    dweight,
    dbias,
    partial,
  ])
    o?.storage.release();
}

// 258 would be unrolled by the driver, as 368 is, which then compiles for seconds.
for (const width of [1, 7, 55, 66, 368, 1026, 4100]) {
  test(`width ${width}: the form chosen for this adapter`, async () => {
    await check({ norm: 'rms', rows: 13, width, bias: false }, normConfig(device, width));
    await check({ norm: 'layer', rows: 3, width, residualOut: false }, normConfig(device, width));
  });
}

test('every form gives the same numbers', async () => {
  // 37 vectors: a shorter loop would be unrolled by the driver, which then compiles for seconds.
  for (const width of [55, 148]) {
    for (const config of normConfigs(device, width)) await check({ norm: 'layer', rows: 19, width }, config);
  }
});

test('many partial sums, added up by few invocations and by one', async () => {
  // 75 of them: whole rounds of eight for each of 4 or 8 invocations, and a rest.
  for (const slices of [1, 4, 8])
    await check({ norm: 'layer', rows: 150, width: 20 }, { ...normConfig(device, 20), partials: 75, slices });
});

test('variance is taken around the mean', async () => {
  const plain = {
    norm: 'layer',
    rows: 5,
    width: 66,
    weight: false,
    bias: false,
    residual: false,
    residualOut: false,
  } as const;
  await check({ ...plain, offset: 300 }, normConfig(device, 66));
});

test('f16 rows, f32 sums and residual', { needs: 'shader-f16' }, async () => {
  for (const width of [7, 148]) {
    await check({ norm: 'layer', rows: 9, width, type: 'f16' }, normConfig(device, width));
    await check({ norm: 'rms', rows: 9, width, type: 'f16', residualOut: false }, normConfig(device, width));
  }
});

test('two runs give the same bits', async () => {
  const [rows, width] = [130, 64];
  const config = normConfig(device, width);
  const x = operand(device, noise(rows * width, 1));
  const dy = operand(device, noise(rows * width, 2));
  const weight = operand(device, noise(width, 3));
  const results: Float64Array[] = [];
  for (let run = 0; run < 2; run++) {
    const [y, dx] = [emptyOperand(device, rows * width), emptyOperand(device, rows * width)];
    const stats = emptyOperand(device, rows * 2);
    const dweight = emptyOperand(device, width);
    const shape = { norm: 'layer', rows, width } as const;
    normForward(device, { ...shape, eps: 1e-5, x, weight, y, stats }, config);
    normBackward(
      device,
      { ...shape, h: x, weight, stats, dy, dx, dweight, partial: emptyOperand(device, normPartials(config, shape, 1)) },
      config,
    );
    results.push(await values(device, dweight));
  }
  assert.equal(results[0], results[1]);
});

for (const prenorm of [true, false]) {
  test(`addLayerNorm and addRmsNorm on the tape, prenorm ${prenorm}`, async ({ own }) => {
    for (const [norm, op] of [
      ['rms', addRmsNorm],
      ['layer', addLayerNorm],
    ] as const) {
      const [rows, width, eps] = [6, 7, 1e-5];
      const [x, residual, up, upOut] = [1, 2, 3, 4].map((salt) => rounded(noise(rows * width, salt), 'f32'));
      const [weight, bias] = [5, 6].map((salt) => rounded(noise(width, salt), 'f32'));
      const leaf = (data: Float64Array, shape: number[]): Tensor =>
        own(tensor(device, data, { shape })).requiresGrad_();
      const given = {
        x: leaf(x, [2, 3, width]),
        residual: leaf(residual, [2, 3, width]),
        weight: leaf(weight, [width]),
        bias: leaf(bias, [width]),
      };
      const expected = addNormReference({ norm, rows, width, eps, x, residual, weight, bias });
      const grads = addNormGradReference(
        { norm, rows, width, eps, x, residual, weight, bias },
        up,
        prenorm ? upOut : null,
      );
      const results = scope(() => {
        const [dy, dout] = [up, upOut].map((data) => tensor(device, data, { shape: [2, 3, width] }));
        if (!prenorm) {
          const y = op({ ...given, eps });
          backward(y, { gradient: dy });
          return [y];
        }
        const { y, residualOut } = op({ ...given, eps, prenorm: true });
        backward([y, residualOut], { gradient: [dy, dout] });
        return [y, residualOut];
      }).map(own);
      assertClose(await results[0].data(), expected.y, 1e-5, `y ${norm}`);
      if (prenorm) assertClose(await results[1].data(), expected.residualOut, 1e-6, `residualOut ${norm}`);
      assertClose(await given.x.grad!.data(), grads.dx, 2e-5, `dx ${norm}`);
      assertClose(await given.residual.grad!.data(), grads.dx, 2e-5, `dresidual ${norm}`);
      assertClose(await given.weight.grad!.data(), grads.dweight, 2e-5, `dweight ${norm}`);
      assertClose(await given.bias.grad!.data(), grads.dbias, 2e-5, `dbias ${norm}`);
      for (const t of Object.values(given)) own(t.grad!);
    }
  });
}

test('without a residual, prenorm gives x back and its gradient arrives', async ({ own }) => {
  const [rows, width] = [3, 66];
  const [x, up, upOut] = [1, 2, 3].map((salt) => rounded(noise(rows * width, salt), 'f32'));
  const given = own(tensor(device, x, { shape: [rows, width] })).requiresGrad_();
  const { y, residualOut } = addRmsNorm({ x: given, prenorm: true });
  for (const t of [y, residualOut]) own(t);
  const gradient = [up, upOut].map((data) => own(tensor(device, data, { shape: [rows, width] })));
  backward([y, residualOut], { gradient });
  own(given.grad!);
  assert.equal(Float64Array.from(await residualOut.data()), x);
  assertClose(
    await given.grad!.data(),
    addNormGradReference({ norm: 'rms', rows, width, eps: 1e-5, x }, up, upOut).dx,
    2e-5,
    'dx',
  );
});

test('x of each sample times its factor, in every form, with the sum given back or not', async () => {
  const [samples, length, eps] = [3, 4, 1e-5];
  const factors = [1.25, 0, 2];
  for (const [norm, op, width, types] of [
    ['rms', addRmsNorm, 148, ['f32', 'f16']],
    ['layer', addLayerNorm, 55, ['f32']],
  ] as const) {
    const rows = samples * length;
    const [x, residual, up, upOut] = [1, 2, 3, 4].map((salt) => rounded(noise(rows * width, salt), 'f16'));
    const [weight, bias] = [5, 6].map((salt) => rounded(noise(width, salt), 'f32'));
    const scale = (values: Float64Array): Float64Array =>
      values.map((v, i) => v * factors[Math.floor(i / (length * width))]);
    for (const [k, config] of normConfigs(device, width).entries()) {
      for (const type of types) {
        if (type === 'f16' && (k > 0 || !hasFeature(device, 'shader-f16'))) continue;
        for (const prenorm of k === 0 ? [true, false] : [k % 2 === 0]) {
          const reference = { norm, rows, width, eps, x: scale(x), residual, weight, bias };
          const expected = addNormGradReference(reference, up, prenorm ? upOut : null);
          const [y, ...found] = scope(() => {
            const leaf = (data: Float64Array, shape: number[], dtype: FloatDType = 'f32'): Tensor =>
              tensor(device, data, { shape, dtype }).requiresGrad_();
            const shape = [samples, length, width];
            const given = {
              x: leaf(x, shape, type),
              residual: leaf(residual, shape),
              weight: leaf(weight, [width]),
              bias: leaf(bias, [width]),
            };
            const args = { ...given, factors: tensor(device, factors), eps, config };
            const gradient = [tensor(device, up, { shape, dtype: type }), tensor(device, upOut, { shape })];
            if (!prenorm) {
              const out = op(args);
              return [out, ...grad(out, Object.values(given), { gradient: gradient[0] })];
            }
            const out = op({ ...args, prenorm: true });
            return [out.y, ...grad([out.y, out.residualOut], Object.values(given), { gradient })];
          });
          const limit = type === 'f16' ? 3e-3 : 2e-5;
          assertClose(await y!.data(), addNormReference(reference).y, limit, `y ${norm}`);
          const truth = [scale(expected.dx), expected.dx, expected.dweight, expected.dbias];
          for (const [i, t] of found.entries()) {
            assertClose(
              await t!.data(),
              truth[i],
              limit,
              `gradient ${i} ${norm} ${type} ${prenorm} ${JSON.stringify(config)}`,
            );
            t!.dispose();
          }
          y!.dispose();
        }
      }
    }
  }
});

test('a second derivative is refused by name', ({ own }) => {
  const x = own(tensor(device, noise(14, 1), { shape: [2, 7] })).requiresGrad_();
  assert.throws(
    () => scope(() => backward(addRmsNorm({ x }).sum(), { createGraph: true })),
    /addRmsNorm is a fused kernel with a first derivative only/,
  );
});

test('errors name the operand', () =>
  scope(() => {
    const x = zeros(device, [2, 6]);
    assert.throws(
      () => addRmsNorm({ x, residual: zeros(device, [3, 6]) }),
      /\[addRmsNorm\] residual has shape \(3,6\), expected the shape of x \(2,6\)/,
    );
    assert.throws(
      () => addLayerNorm({ x, weight: zeros(device, [5]) }),
      /\[addLayerNorm\] weight has shape \(5,?\), expected \(6,?\)/,
    );
    assert.throws(
      () => addRmsNorm({ x, factors: zeros(device, [3]) }),
      /\[addRmsNorm\] factors are f32 of shape \(3,\), expected f32 of shape \(2,\), one for each sample of x \(2,6\)/,
    );
    assert.throws(() => addLayerNorm({ x: zeros(device, [2, 6], 'i32') }), /\[addLayerNorm\] x has dtype i32/);
  }));

test.run();
