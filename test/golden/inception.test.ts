// FID's network against PyTorch: the means of its four output blocks with weights and pictures by formula, and the
// resizing before it. Weights and pictures can be made by anybody, so that the file of 95 MB isn't needed.

import * as assert from 'uvu/assert';
import { keep, scope, tensor, type Tensor } from '../../core/index.ts';
import { FidInception, fidInceptionShapes, fidResize } from '../../models/evaluate/index.ts';
import type { SafetensorsEntry } from '../../nn/index.ts';
import { gpuSuite } from '../support.ts';
import { hashValue } from './hashFormula.ts';
import { assertClose, familiesOf, loadGolden, need } from './support.ts';

interface Sidecar {
  readonly salt: number;
  readonly images: Record<string, { batch: number; height: number; width: number; index: number }>;
  readonly weight_checks: Record<string, { index: number; first: number[]; sum_f64: number }>;
  readonly state_dict: [name: string, shape: number[]][];
}

/** The value of each element, by the sidecar's `weight_formula`. */
function weights({ state_dict: all, salt }: Sidecar): Map<string, SafetensorsEntry> {
  const entries = new Map<string, SafetensorsEntry>();
  const named = all.filter(([name]) => !name.endsWith('num_batches_tracked')).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [k, [name, shape]] of named.entries()) {
    const count = shape.reduce((a, b) => a * b, 1);
    const spread = Math.sqrt(6 / (count / shape[0]));
    const [offset, scale] = name.endsWith('bn.weight')
      ? [1, 0.2]
      : name.endsWith('bn.bias') || name.endsWith('running_mean')
        ? [0, 0.1]
        : name.endsWith('running_var')
          ? [1, 0.5]
          : name === 'fc.bias'
            ? [0, 0.05]
            : [0, spread];
    const data = Float32Array.from({ length: count }, (_, j) => offset + scale * hashValue(j, k, salt));
    entries.set(name, { dtype: 'F32', shape, data });
  }
  return entries;
}

for (const { path, sidecar } of familiesOf<Sidecar>('fid', "FID's network", ({ images }) => images !== undefined)) {
  const test = gpuSuite(`golden ${path}`);
  const golden = loadGolden(path);
  const entries = weights(sidecar);
  let network: FidInception;
  test.before(({ device }) => {
    network = new FidInception(device, entries, { identity: 'formula', official: false });
  });

  test('the formula gives the reference weights, and the file has the names that are asked for', () => {
    for (const [name, { first, sum_f64: sum }] of Object.entries(sidecar.weight_checks)) {
      const { data } = entries.get(name)!;
      const values = Array.from(data as Float32Array);
      assertClose(values.slice(0, first.length), first, 0, name);
      const total = values.reduce((a, b) => a + b, 0);
      assert.ok(Math.abs(total - sum) <= 1e-9 * values.length, `${name}: ${total}`);
    }
    const known = new Map(sidecar.state_dict);
    for (const [name, shape] of fidInceptionShapes()) assert.equal(known.get(name), [...shape], name);
    assert.is(fidInceptionShapes().size, sidecar.state_dict.filter(([name]) => !/tracked$/.test(name)).length);
  });

  for (const [name, { batch, height, width, index }] of Object.entries(sidecar.images)) {
    const image = (): Float32Array => {
      const pixels = new Float32Array(batch * 3 * height * width);
      for (let j = 0; j < pixels.length; j++) {
        const x = j % width,
          y = Math.floor(j / width) % height,
          c = Math.floor(j / (width * height)) % 3,
          n = Math.floor(j / (width * height * 3));
        const wave = Math.sin(6 * (x / width) * (1 + c) + 4 * (y / height) * (3 - c) + 1.3 * c + 2.1 * n);
        pixels[j] = Math.fround(0.5 + 0.35 * wave + 0.1 * hashValue(j, index, sidecar.salt));
      }
      return pixels;
    };

    test(`${name}: resizing and the means of the four blocks`, async ({ device, own }) => {
      const input = own(
        keep(
          tensor(
            device,
            image().map((value) => 2 * value - 1),
            { shape: [batch, 3, height, width] },
          ),
        ),
      );
      const resized = own(scope(() => fidResize(input).alias()));
      const corner = (t: Tensor, from: number, side: number): Tensor =>
        t.slice(2, from, from + side).slice(3, from, from + side);
      for (const [part, from, side] of [
        ['resized_corner', 0, 16],
        ['resized_last', 299 - 8, 8],
      ] as const) {
        const found = own(scope(() => corner(resized, from, side).add(1).mul(0.5)));
        assertClose(await found.data(), need(golden, `${name}.out.${part}`), 1e-5, part);
      }
      const means = network.blockMeans(input);
      for (const each of means) own(each);
      for (const [block, found] of means.entries())
        assertClose(await found.data(), need(golden, `${name}.out64.block${block}_mean`), 1e-4, `block ${block}`);
    });
  }
  test.run();
}
