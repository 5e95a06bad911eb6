import * as assert from 'uvu/assert';
import {
  fuse,
  fuseInPlace,
  noGrad,
  scope,
  tensor,
  type DType,
  type Expr,
  type Tensor,
  zeros,
} from '../../../core/index.ts';
import { mapSamples, SampleProgram, sumSamples, type Source } from '../../../core/expr/samples.ts';
import { Expr as E } from '../../../core/expr/expr.ts';
import { erf } from '../../reference/erf.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('sources');

/** Uses what needs functions of its own: pow, erf, where, comparisons, remainder, clamp, sine and logarithm. */
const expression = (x: Expr, y: Expr): Expr =>
  x
    .gt(y)
    .or(x.le(-0.5))
    .where(x.abs().pow(y.add(2)), y.erf().sub(x.sin()))
    .add(x.remainder(0.3).mul(y.clamp(-0.4, 0.4)))
    .add(y.add(2).log().mul(x.tanh()));
const reference = (x: number, y: number): number =>
  (x > y || x <= -0.5 ? Math.abs(x) ** (y + 2) : erf(y) - Math.sin(x)) +
  (x - 0.3 * Math.floor(x / 0.3)) * Math.min(Math.max(y, -0.4), 0.4) +
  Math.log(y + 2) * Math.tanh(x);

const BATCH = 3;
const COLUMNS = 5;
/** Every kind of source for y beside an element x: how it is given, and its value for an element. */
const kinds: Record<
  string,
  {
    source: Source | null;
    shape: (size: number) => number[];
    value: (y: ArrayLike<number>, sample: number, element: number, size: number) => number;
  }
> = {
  element: {
    source: { kind: 'element', tensor: 1 },
    shape: (size) => [BATCH, size],
    value: (y, b, i, size) => y[b * size + i],
  },
  'half of the channels': {
    source: { kind: 'element', tensor: 1, part: 1, parts: 2 },
    shape: (size) => [BATCH, 2 * size],
    value: (y, b, i, size) => y[(2 * b + 1) * size + i],
  },
  'value a sample': { source: { kind: 'sample', tensor: 1 }, shape: () => [BATCH], value: (y, b) => y[b] },
  'row of a table': {
    source: { kind: 'row', table: 1, row: 2, column: 3, columns: COLUMNS },
    shape: () => [7, COLUMNS],
    value: (y, b) => y[ROWS[b] * COLUMNS + 3],
  },
  'number given at run time': { source: null, shape: () => [1], value: (y) => y[0] },
};
const ROWS = [6, 0, 2];

for (const [name, { source, shape, value }] of Object.entries(kinds)) {
  for (const dtype of ['f32', 'f16'] as DType[]) {
    test(`an expression of a ${name} in ${dtype}, mapped and summed, one by one and as vectors`, async ({ device }) => {
      if (dtype === 'f16' && (!device.has('shader-f16') || source?.kind === 'row')) return;
      for (const size of [5, 12, 4100]) {
        const x = tensor(device, uniform(BATCH * size, 1), { shape: [BATCH, size], dtype });
        const count = shape(size).reduce((a, b) => a * b);
        const y = tensor(device, uniform(count, 2), { shape: shape(size), dtype: source ? dtype : 'f32' });
        const t = tensor(device, Int32Array.from(ROWS));
        const [xs, ys] = [await x.data(), await y.data()];
        const inputs: Source[] = [{ kind: 'element', tensor: 0 }, ...(source ? [source] : [])];
        const expr = expression(E.input(0, 'f32'), source ? E.input(1, 'f32') : E.scalar(1));
        const program = new SampleProgram('test', inputs, [{ expr, part: 0, parts: 1, before: 0 }]);
        const scalars = source ? [] : [ys[0]];
        const expected = Array.from(xs, (v, k) => reference(v, value(ys, Math.floor(k / size), k % size, size)));
        const sums = Array.from({ length: BATCH }, (_, b) =>
          expected.slice(b * size, (b + 1) * size).reduce((s, v) => s + v),
        );
        const [mapped, summed] = scope(() => [
          mapSamples(device, program, [x, y, t], { batch: BATCH, size }, scalars),
          sumSamples(device, program, [x, y, t], { batch: BATCH, size }, scalars),
        ]);
        assertClose(await mapped.data(), expected, 2e-6, `map ${size}`);
        assertClose(await summed.data(), sums, 2e-6, `sum ${size}`);
        for (const tensor of [x, y, t, mapped, summed]) tensor.dispose();
      }
    });
  }
}

test('the same expression of tensors that broadcast, lie anywhere, and are overwritten', async ({ device }) => {
  const f = fuse(expression);
  const update = fuseInPlace((x, y) => [expression(x, y), x.mul(2)]);
  const x = tensor(device, uniform(6 * 8, 1), { shape: [6, 8] });
  const y = tensor(device, uniform(8, 2));
  const [xs, ys] = [await x.data(), await y.data()];
  const expected = Array.from(xs, (v, k) => reference(v, ys[k % 8]));
  const transposed = Array.from({ length: 48 }, (_, k) => expected[(k % 6) * 8 + Math.floor(k / 6)]);
  const results = scope(() => [
    f(x, y),
    f(x.permute(1, 0), y.reshape(8, 1)),
    f(x.slice(1, 1, 8), y.slice(0, 1, 8)),
    f(x.flip(0), y),
  ]);
  const [plain, columns, part, flipped] = await Promise.all(results.map(async (t) => Array.from(await t.data())));
  assertClose(plain, expected, 2e-6, 'plain');
  assertClose(columns, transposed, 2e-6, 'transposed');
  assertClose(part, expected.filter((_, k) => k % 8 > 0), 2e-6, 'slice'); // prettier-ignore
  assertClose(flipped, expected.map((_, k) => expected[(5 - Math.floor(k / 8)) * 8 + (k % 8)]), 2e-6, 'flipped'); // prettier-ignore
  // In place: tensors of their own, views, and two parts of one memory.
  const whole = tensor(device, [...xs, ...xs.map((_, k) => ys[k % 8])], { shape: [2, 6, 8] });
  const pair = [0, 1].map((i) => whole.select(0, i));
  const own = pair.map((t) => t.clone());
  const before = device.stream.dispatches;
  noGrad(() => update(...own));
  assert.is(device.stream.dispatches - before, 1);
  noGrad(() => update(...pair));
  for (const [a, b] of [own, pair]) {
    assertClose(await a.data(), expected, 2e-6, 'in place');
    assertClose(await b.data(), Array.from(xs, (v) => 2 * v), 1e-7, 'in place, second'); // prettier-ignore
  }
  for (const t of [x, y, whole, ...pair, ...own, ...results]) t.dispose();
});

test('in place: what can be refused is refused by name, and saved values are missed', ({ device }) => {
  const update = fuseInPlace((x, y) => x.add(y), 'move');
  const [x, y, wide] = [[3], [3], [2, 3]].map((shape) =>
    tensor(device, uniform(shape.reduce((a, b) => a * b)), { shape }),
  );
  assert.throws(() => update(x, wide), /^\[move\] Tensor 1 has shape \(2,3\), expected \(3,\)/);
  x.requiresGrad_();
  assert.throws(() => update(x, y), /^\[move\] Writing in place is not differentiable/);
  const z = scope(() => x.mul(x).sum());
  noGrad(() => update(x, y));
  assert.throws(() => z.backward(), /was overwritten since/);
  for (const t of [x, y, wide, z] as Tensor[]) t.dispose();
});

test('a row that the table does not have is NaN, never a neighbour', async ({ device }) => {
  const program = new SampleProgram(
    'rows',
    [{ kind: 'row', table: 0, row: 1, column: 1, columns: 2 }],
    [{ expr: E.input(0, 'f32'), part: 0, parts: 1, before: 0 }],
  );
  const [table, rows] = [tensor(device, [[1, 2], [3, 4]]), tensor(device, Int32Array.of(-1, 0, 1, 2))]; // prettier-ignore
  for (const size of [1, 4]) {
    const y = mapSamples(device, program, [table, rows], { batch: 4, size });
    const expected = [NaN, 2, 4, NaN].flatMap((v) => new Array<number>(size).fill(v));
    assert.equal(Array.from(await y.data()), expected);
    y.dispose();
  }
  table.dispose();
  rows.dispose();
});

test('equal layouts of a program are one kernel, and a new layout a new one', ({ device }) => {
  const f = fuse((x, y) => x.sub(y).square());
  const run = (...shapes: number[][]): void => {
    const inputs = shapes.map((shape) => zeros(device, shape));
    for (const t of [...inputs, f(inputs[0], inputs[1])]) t.dispose();
  };
  run([4, 8], [4, 8]);
  const { compiled } = device.kernels;
  for (let n = 1; n < 9; n++) run([n, 8], [n, 8]);
  assert.is(device.kernels.compiled, compiled);
  run([4, 8], [8]);
  assert.is(device.kernels.compiled, compiled + 1);
});

test.run();
