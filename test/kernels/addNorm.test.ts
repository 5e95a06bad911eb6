// The add + norm kernels against float64, in every form that a tuner may choose, at odd sizes, f32 and f16.

import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDevice } from '../../core/open.ts';
import { normBackward, normForward, normPartials } from '../../kernels/add-norm/launch.ts';
import { normConfig, normConfigs, type NormConfig } from '../../kernels/add-norm/config.ts';
import { assertClose } from '../golden/support.ts';
import { addNormGradReference, addNormReference } from '../reference/norm.ts';
import { emptyOperand, noise, operand, rounded, values, type TestType } from './support.ts';

const device = await openDevice();

interface Case {
  readonly norm: 'rms' | 'layer';
  readonly rows: number;
  readonly width: number;
  readonly type?: TestType;
  readonly residual?: boolean;
  readonly weight?: boolean;
  readonly bias?: boolean;
  readonly residualOut?: boolean;
  readonly offset?: number;
}

async function check(c: Case, config: NormConfig): Promise<void> {
  const { norm, rows, width, type = 'f32', residual = true, weight = true, bias = true, residualOut = true, offset = 0 } = c;
  const label = `${norm} ${rows}x${width} ${type} ${JSON.stringify(config)}`;
  const eps = 1e-5;
  const n = rows * width;
  const x = rounded(noise(n, 1).map((v) => v * 2 + offset), type);
  const r = residual ? rounded(noise(n, 2), 'f32') : null;
  const w = weight ? rounded(noise(width, 3).map((v) => 1 + v / 2), 'f32') : null;
  const b = bias ? rounded(noise(width, 4), 'f32') : null;
  const up = rounded(noise(n, 5), type);
  const upOut = residualOut ? rounded(noise(n, 6), 'f32') : null;
  const maybe = (array: Float64Array | null): ReturnType<typeof operand> | null => (array ? operand(device, array) : null);
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
  normBackward(device, {
    ...shape, h: out ?? given.x, residual: out ? null : given.residual, weight: given.weight, stats,
    dy: operand(device, up, type), dresidualOut: maybe(upOut), dx, dresidual, partial, dweight, dbias,
  }, config);
  const grad = addNormGradReference(input, up, upOut);
  assertClose(await values(device, dx), grad.dx, type === 'f16' ? 2e-3 : 2e-5, `dx of ${label}`);
  if (dresidual) assertClose(await values(device, dresidual), grad.dx, 2e-5, `dresidual of ${label}`);
  if (dweight) assertClose(await values(device, dweight), grad.dweight, 2e-5, `dweight of ${label}`);
  if (dbias) assertClose(await values(device, dbias), grad.dbias, 2e-5, `dbias of ${label}`);
  for (const o of [given.x, given.residual, given.weight, given.bias, y, out, stats, dx, dresidual, dweight, dbias, partial]) o?.storage.release();
}

for (const width of [1, 7, 55, 66, 258, 368, 1026, 4100]) {
  test(`width ${width}: the form chosen for this adapter`, async () => {
    await check({ norm: 'rms', rows: 13, width, bias: false }, normConfig(device, width));
    await check({ norm: 'layer', rows: 3, width, residualOut: false }, normConfig(device, width));
  });
}

test('every form gives the same numbers', async () => {
  for (const width of [55, 44]) {
    for (const config of normConfigs(device, width)) await check({ norm: 'layer', rows: 19, width }, config);
  }
});

test('variance is taken around the mean', async () => {
  const plain = { norm: 'layer', rows: 5, width: 66, weight: false, bias: false, residual: false, residualOut: false } as const;
  await check({ ...plain, offset: 300 }, normConfig(device, 66));
});

test('f16 rows, f32 sums and residual', async () => {
  if (!device.has('shader-f16')) return;
  for (const width of [7, 368]) {
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
    normBackward(device, { ...shape, h: x, weight, stats, dy, dx, dweight, partial: emptyOperand(device, normPartials(config, shape, 1)) }, config);
    results.push(await values(device, dweight));
  }
  assert.equal(results[0], results[1]);
});

test.after(() => device.destroy());
test.run();
