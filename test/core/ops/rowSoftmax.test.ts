// Softmax of rows, in every form that the device has, against float64.

import * as assert from 'uvu/assert';
import { noGrad, scope, tensor } from '../../../core/index.ts';
import { rowSoftmax, rowSoftmaxTeams } from '../../../core/ops/rowSoftmax.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('rowSoftmax');

function reference(x: Float32Array, width: number): { softmax: Float64Array; log: Float64Array } {
  const softmax = new Float64Array(x.length),
    log = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    const row = x.subarray(at, at + width),
      high = Math.max(...row);
    const sum = row.reduce((s, v) => s + Math.exp(v - high), 0);
    row.forEach((v, i) => {
      softmax[at + i] = Math.exp(v - high) / sum;
      log[at + i] = v - high - Math.log(sum);
    });
  }
  return { softmax, log };
}

for (const [rows, width] of [
  [1, 1],
  [3, 5],
  [70, 33],
  [5, 368],
  [2, 1031],
] as const) {
  test(`${rows} × ${width}`, async ({ device }) => {
    const data = uniform(rows * width, width).map((v, i) => 20 * v + (i % 7 === 0 ? 80 : 0));
    const expected = reference(data, width);
    for (const team of rowSoftmaxTeams(device, width)) {
      const [y, l] = noGrad(() =>
        scope(() => {
          const x = tensor(device, data, { shape: [rows, width] });
          return [rowSoftmax(x, false, team), rowSoftmax(x, true, team)];
        }),
      );
      assertClose(await y.data(), expected.softmax, 2e-6, `softmax, ${JSON.stringify(team)}`);
      assertClose(await l.data(), expected.log, 2e-6, `log, ${JSON.stringify(team)}`);
      y.dispose();
      l.dispose();
    }
  });
}

test('a row of a view, infinities and NaN', async ({ device }) => {
  const y = scope(() =>
    tensor(device, [1, 2, 3, -Infinity, 0, 0, NaN, 0, 0, -Infinity, -Infinity, -Infinity], { shape: [4, 3] }).softmax(
      -1,
    ),
  );
  const values = [...(await y.data())];
  y.dispose();
  assertClose(values.slice(0, 6), [0.0900305732, 0.2447284711, 0.6652409558, 0, 0.5, 0.5], 1e-6);
  assert.ok(values.slice(6).every(Number.isNaN), String(values));
  const columns = scope(() =>
    tensor(device, [1, 4, 2, 5, 3, 6], { shape: [3, 2] })
      .transpose(0, 1)
      .softmax(-1),
  );
  assertClose(
    await columns.data(),
    [0.0900305732, 0.2447284711, 0.6652409558, 0.0900305732, 0.2447284711, 0.6652409558],
    1e-6,
  );
  columns.dispose();
});

test.run();
