import * as assert from 'uvu/assert';
import { conv2d, full, scope, tensor, zeros, type Device, type FloatDType, type Tensor } from '../../../core/index.ts';
import { imageConfigs } from '../../../core/gemm/config.ts';
import type { GemmConfig } from '../../../core/gemm/spec.ts';
import { imageProduct, type ImageSpec } from '../../../core/gemm/index.ts';
import { conv2dReference, type Conv2dCase } from '../../reference/conv2d.ts';
import { assertClose, gpuSuite, hasFeature, notRun, uniform } from '../../support.ts';

const test = gpuSuite('products of images');

const base = { depth: 4, splits: 1 } as const;
const register: GemmConfig = { ...base, form: 'register', rows: 4, quads: 1, x: 8, y: 8 };
const panel: GemmConfig = { ...base, form: 'panel', rows: 24, quads: 2, x: 8, y: 1, depth: 384 };
const tile: GemmConfig = { ...base, form: 'tile', rows: 4, quads: 1, x: 8, y: 8, depth: 16 };

interface Case extends Conv2dCase {
  readonly title: string;
}

const f16 = { offset: 0, rowStride: 4096, dtype: 'f16' } as const;
const MATRIX_PROBLEM = { M: 4096, N: 4096, K: 4096, a: f16, b: f16, c: f16 };

/** Odd sizes, results in fours and in eights, one tap and many, few channels and many. */
const cases: Case[] = [
  { title: '3×3', x: [2, 5, 9, 7], weight: [6, 5, 3, 3], padding: [1, 1] },
  { title: '3×3 in fours', x: [2, 6, 8, 6], weight: [7, 6, 3, 3], padding: [1, 1] },
  { title: '1×1', x: [3, 19, 5, 7], weight: [9, 19, 1, 1] },
  { title: '1×1 in eights', x: [2, 20, 4, 8], weight: [12, 20, 1, 1] },
  {
    title: 'stride and dilation',
    x: [2, 33, 9, 11],
    weight: [8, 33, 3, 2],
    stride: [2, 3],
    padding: [2, 1],
    dilation: [2, 3],
  },
  { title: 'groups', x: [2, 16, 6, 5], weight: [24, 8, 1, 3], padding: [0, 1], groups: 2 },
  { title: 'many channels', x: [1, 60, 5, 5], weight: [5, 60, 3, 3], padding: [1, 1] },
];

interface Sizes {
  readonly out: readonly number[];
  readonly plane: number;
  readonly grid: number;
}

/** The product of a convolution, into new tensors. */
function product(
  device: Device,
  c: Case,
  { out, plane, grid }: Sizes,
  gives: ImageSpec['gives'],
  t: { x: Tensor; weight: Tensor; bias: Tensor; gradient: Tensor },
  result: Tensor,
  config: GemmConfig,
): void {
  const [batch, , height, width] = c.x;
  const { groups = 1, stride = [1, 1], padding = [0, 0], dilation = [1, 1] } = c;
  const [O, channels, kH, kW] = c.weight;
  const memory = (m: Tensor): { storage: Tensor['storage']; offset: number; dtype: FloatDType } => ({
    storage: m.storage,
    offset: m.offset,
    dtype: m.dtype as FloatDType,
  });
  const common = {
    batch,
    groups,
    rows: O / groups,
    channels,
    windows: {
      kernel: [kH, kW],
      stride,
      origin: [-padding[0], -padding[1]],
      step: dilation,
      grid: [out[2], out[3]],
    },
    image: { ...memory(t.x), height, width },
  } as const;
  assert.is(plane, height * width);
  imageProduct(
    device,
    gives === 'weights'
      ? { ...common, gives, gradient: memory(t.gradient), result: { storage: result.storage } }
      : {
          ...common,
          gives,
          weight: {
            ...memory(t.weight),
            group: (O / groups) * channels * kH * kW,
            row: channels * kH * kW,
            channel: kH * kW,
            tap: [kW, 1],
          },
          result: { ...memory(result), sample: O * grid, channel: grid, row: out[3], column: 1 },
          bias: memory(t.bias),
          activation: 'relu',
        },
    config,
  );
}

/** dL/dweight in float64, an entry by unit weights: Σ over pixels of the gradient and what the tap meets. */
function weightsReference(c: Case, x: ArrayLike<number>, gradient: ArrayLike<number>): Float64Array {
  const [, C, H, W] = c.x;
  const [O, channels, kH, kW] = c.weight;
  const { groups = 1, stride: [sy, sx] = [1, 1], padding: [py, px] = [0, 0], dilation: [dy, dx] = [1, 1] } = c;
  const shape = conv2dReference(c, x, new Float32Array(O * channels * kH * kW), null).shape;
  const result = new Float64Array(kH * kW * O * channels);
  for (let o = 0; o < O; o++)
    for (let k = 0; k < channels; k++)
      for (let u = 0; u < kH; u++)
        for (let v = 0; v < kW; v++) {
          const group = Math.floor(o / (O / groups));
          let sum = 0;
          for (let n = 0; n < shape[0]; n++)
            for (let i = 0; i < shape[2]; i++)
              for (let j = 0; j < shape[3]; j++) {
                const row = i * sy + u * dy - py,
                  column = j * sx + v * dx - px;
                if (row < 0 || row >= H || column < 0 || column >= W) continue;
                sum +=
                  gradient[((n * O + o) * shape[2] + i) * shape[3] + j] *
                  x[((n * C + group * channels + k) * H + row) * W + column];
              }
          // (groups, kH, kW, O / groups, channels)
          result[(((group * kH + u) * kW + v) * (O / groups) + (o % (O / groups))) * channels + k] = sum;
        }
  return result;
}

async function compare(device: Device, c: Case, dtype: FloatDType, configs: Record<string, GemmConfig>): Promise<void> {
  const [O] = c.weight;
  const numel = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
  const make = (shape: readonly number[], seed: number): Tensor =>
    tensor(device, uniform(numel(shape), seed), { shape, dtype });
  const t = { x: make(c.x, 1), weight: make(c.weight, 2), bias: make([O], 3) };
  const [x, weight, bias] = [await t.x.data(), await t.weight.data(), await t.bias.data()];
  const { y, shape } = conv2dReference(c, x, weight, bias);
  const gradient = make(shape, 4);
  const sizes = { out: shape, plane: c.x[2] * c.x[3], grid: shape[2] * shape[3] };
  const expected = {
    pixels: y.map((v) => Math.max(v, 0)),
    weights: weightsReference(c, x, await gradient.data()),
  };
  for (const [name, config] of Object.entries(configs)) {
    for (const gives of ['pixels', 'weights'] as const) {
      // A half of what it should hold would be found: it begins as something else.
      const result = full(device, [expected[gives].length], 7, gives === 'weights' ? 'f32' : dtype);
      product(device, c, sizes, gives, { ...t, gradient }, result, config);
      assertClose(
        await result.data(),
        expected[gives],
        dtype === 'f32' || gives === 'weights' ? 3e-6 : 1.5e-3,
        `${c.title} ${dtype} ${gives} ${name}`,
      );
      result.dispose();
    }
  }
  for (const one of [...Object.values(t), gradient]) one.dispose();
}

/** Encodes both products in f16, for what is not computed. */
function encodeBoth(device: Device, c: Conv2dCase, config: GemmConfig): void {
  scope(() => {
    const [, , kH, kW] = c.weight;
    const { stride: [sy, sx] = [1, 1], padding: [py, px] = [0, 0], dilation: [dy, dx] = [1, 1] } = c;
    const size = (n: number, k: number, s: number, p: number, d: number): number =>
      Math.floor((n + 2 * p - d * (k - 1) - 1) / s) + 1;
    const shape = [c.x[0], c.weight[0], size(c.x[2], kH, sy, py, dy), size(c.x[3], kW, sx, px, dx)];
    const [x, weight, gradient] = [c.x, c.weight, shape].map((s) => zeros(device, s, 'f16'));
    const bias = zeros(device, [c.weight[0]], 'f16');
    const sizes = { out: shape, plane: c.x[2] * c.x[3], grid: shape[2] * shape[3] };
    for (const gives of ['pixels', 'weights'] as const) {
      const count = gives === 'weights' ? weight.numel : gradient.numel;
      const result = zeros(device, [count], gives === 'weights' ? 'f32' : 'f16');
      product(device, { ...c, title: '' }, sizes, gives, { x, weight, bias, gradient }, result, config);
    }
  });
}

/** Forms, and the cases that go other ways in them: compiling takes most of the time of this file. */
const forms: [name: string, config: GemmConfig, f32: readonly string[], f16: readonly string[]][] = [
  ['register', register, cases.map(({ title }) => title), ['3×3']],
  ['one row an invocation', { ...register, rows: 1, x: 64, y: 1 }, ['stride and dilation'], []],
  ['K in parts', { ...register, splits: 5 }, ['3×3 in fours', 'groups'], ['1×1']],
  ['panel', panel, ['3×3', '1×1 in eights', 'stride and dilation', 'many channels'], ['groups']],
  ['tile', tile, ['3×3', '1×1 in eights', 'stride and dilation'], ['3×3 in fours']],
  ['tile whose columns are shared', { ...tile, y: 16, depth: 32 }, ['groups'], []],
];

for (const [name, config, ...lists] of forms) {
  test(`${name}: pixels with bias and ReLU, and weights`, async ({ device }) => {
    if (config.form === 'panel' && !device.has('subgroups')) return notRun('the adapter has no subgroups');
    for (const [i, dtype] of (['f32', 'f16'] as const).entries())
      for (const title of lists[i] as readonly string[]) {
        if (dtype === 'f16' && !hasFeature(device, 'shader-f16')) continue;
        await compare(
          device,
          cases.find((c) => c.title === title)!,
          dtype,
          { [name]: config },
        );
      }
  });
}

test("the matrix unit's form compiles", async ({ open }) => {
  const device = await open({ backend: 'null', tier: 'fast' });
  if (!device.has('subgroup-matrix')) return notRun('the adapter has no matrix unit');
  // As many subgroups as this adapter's workgroup holds.
  const matrix: GemmConfig = { ...base, form: 'matrix', rows: 32, quads: 8, x: 2, y: 1, depth: 32, unit: [8, 8, 8] };
  for (const [i, c] of cases.entries()) encodeBoth(device, c, { ...matrix, splits: 1 + (i % 2) });
  // All taps of a group of channels: whole steps of channels, and with a rest.
  for (const channels of [64, 60])
    encodeBoth(device, { x: [1, channels, 6, 6], weight: [9, channels, 3, 3], padding: [1, 1] }, matrix);
  await device.synchronize();
});

test('the matrix unit computes the same', { needs: 'subgroup-matrix' }, async ({ device }) => {
  const configs = imageConfigs(device, MATRIX_PROBLEM).filter(({ form }) => form === 'matrix');
  if (!configs.length) return notRun('the adapter has no f16 matrix unit');
  for (const [i, config] of configs.entries())
    for (const c of [
      ...cases,
      { title: '64 channels', x: [2, 64, 9, 7], weight: [70, 64, 3, 3], padding: [1, 1] } as Case,
    ])
      await compare(device, c, 'f16', { [`matrix ${i}`]: config });
});

test('the same bits each time', async ({ device }) => {
  const [first, second] = scope(() => {
    const [x, w] = [
      tensor(device, uniform(2 * 9 * 77, 1), { shape: [2, 9, 7, 11] }),
      tensor(device, uniform(13 * 81, 2), { shape: [13, 9, 3, 3] }),
    ];
    return [0, 1].map(() => conv2d(x, w, null, { padding: 1 }));
  });
  assert.equal(await first.data(), await second.data());
  first.dispose();
  second.dispose();
});

test.run();
