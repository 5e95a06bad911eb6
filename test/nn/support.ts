// What tests of layers share.

import * as assert from 'uvu/assert';
import { gradcheck, noGrad, scope, tensor, type Tensor } from '../../core/index.ts';
import type { Layer } from '../../nn/index.ts';

/** What a layer gives for x, and its parameters. */
export async function values(
  layer: Layer,
  x: Tensor,
): Promise<{ y: Float32Array; shape: readonly number[]; parameters: Map<string, Float32Array> }> {
  const y = scope(() => layer.forward(x));
  const parameters = new Map<string, Float32Array>();
  for (const [name, p] of layer.namedParameters()) parameters.set(name, (await p.data()) as Float32Array);
  const result = { y: (await y.data()) as Float32Array, shape: y.shape, parameters };
  if (y !== x) y.dispose();
  return result;
}

/** Checks gradients of the input and of every parameter against differences, at `samples` entries of each. */
export async function checkGradients(layer: Layer, x: Tensor, samples = 6): Promise<void> {
  await gradcheck((t) => layer.forward(t), [x], { samples });
  const loss = (): Tensor =>
    scope(() => {
      const y = layer.forward(x);
      return y
        .mul(
          tensor(
            x.device,
            Float32Array.from({ length: y.numel }, (_, i) => Math.sin(1.7 * i + 0.3)),
            { shape: y.shape },
          ),
        )
        .sum();
    });
  scope(() => loss().backward());
  const eps = 1e-2;
  for (const [name, p] of layer.namedParameters()) {
    const gradient = await p.grad!.data();
    const scale = Math.max(1, ...Array.from(gradient, Math.abs));
    const start = Float32Array.from(await p.data());
    const at = async (index: number, delta: number): Promise<number> => {
      p.write(start.map((v, i) => (i === index ? v + delta : v)));
      const value = noGrad(loss);
      const number = await value.item();
      value.dispose();
      return number;
    };
    for (let i = 0; i < start.length; i += Math.max(1, Math.floor(start.length / samples))) {
      const numeric = ((await at(i, eps)) - (await at(i, -eps))) / (2 * eps);
      assert.ok(
        Math.abs(numeric - gradient[i]) <= 2e-2 * scale,
        `${name}, entry ${i}: the derivative gives ${gradient[i]}, differences give ${numeric}`,
      );
    }
    p.write(start);
    p.grad = null;
  }
}
