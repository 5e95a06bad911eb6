// This project's side of the comparison. Steps are captured and replayed, as jax-js compiles them; the dependent adds are not.

import { readFileSync } from 'node:fs';
import { loadTuning } from '../../cli/tuningCache.ts';
import {
  backward,
  capture,
  fuse,
  grad,
  keep,
  linear,
  matmul,
  openDevice,
  scope,
  tensor,
  type CapturedStep,
  type Device,
  type Tensor,
} from '../../core/index.ts';
import { addLayerNorm, causalConv1d, selectiveScan } from '../../kernels/index.ts';
import { FusedAdamW, Module, parameter } from '../../nn/index.ts';
import type { Engine, Given, Ready } from './engine.ts';

const gate = fuse((x, y, z) => x.silu().mul(y).add(z), 'siluMulAdd');

type Named = Readonly<Record<string, Tensor>>;

/** Work without gradients, or with: `compute` gives its results. */
function work(
  device: Device,
  compute: (t: Named) => Tensor[],
  leaves: readonly string[] = [],
): (given: Given) => Ready {
  return (given) => {
    const inputs: Named = Object.fromEntries(
      Object.entries(given).map(([key, { data, shape }]) => [key, keep(tensor(device, data, { shape }))]),
    );
    for (const key of leaves) inputs[key].requiresGrad_();
    let step: CapturedStep<Tensor[]> | null = null;
    return {
      async run(count) {
        step ??= capture(device, () => scope(() => compute(inputs).map((t) => keep(t))));
        for (let i = 0; i < count; i++) step.replay();
        await device.synchronize();
      },
      async result() {
        const results = scope(() => compute(inputs).map((t) => keep(t)));
        const values = await Promise.all(results.map((t) => t.data()));
        for (const t of results) t.dispose();
        return values;
      },
      dispose() {
        step?.result.forEach((t) => t.dispose());
        step?.dispose();
        for (const t of Object.values(inputs)) t.dispose();
        device.trim();
      },
    };
  };
}

/** Forward and backward with the gradient `g`. */
function gradientWork(
  device: Device,
  leaves: readonly string[],
  compute: (t: Named) => Tensor,
): (given: Given) => Ready {
  return work(
    device,
    (t) =>
      grad(
        compute(t),
        leaves.map((key) => t[key]),
        { gradient: t.g },
      ) as Tensor[],
    leaves,
  );
}

class Perceptron extends Module {
  readonly weights: Tensor[];
  readonly biases: Tensor[];

  constructor(device: Device, given: Given) {
    super();
    // Given as (in, out); a linear layer keeps (out, in).
    this.weights = ['w1', 'w2', 'w3'].map((key) =>
      parameter(scope(() => tensor(device, given[key].data, { shape: given[key].shape }).transpose(0, 1).contiguous())),
    );
    this.biases = this.weights.map((w) => parameter(tensor(device, new Float32Array(w.shape[0]))));
  }

  forward(x: Tensor): Tensor {
    return this.weights.reduce((h, w, i) => {
      const y = linear(h, w, this.biases[i]);
      return i < 2 ? y.relu() : y;
    }, x);
  }
}

function perceptron(device: Device): (given: Given) => Ready {
  return (given) => {
    const [x, t] = ['x', 't'].map((key) => keep(tensor(device, given[key].data, { shape: given[key].shape })));
    const model = new Perceptron(device, given);
    const optimizer = new FusedAdamW(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8 });
    const once = (): void =>
      scope(() => {
        backward(model.forward(x).sub(t).square().mean(), optimizer.backwardOptions());
        optimizer.step();
      });
    let step: CapturedStep<void> | null = null;
    return {
      async run(count) {
        step ??= capture(device, once);
        for (let i = 0; i < count; i++) step.replay();
        await device.synchronize();
      },
      async result() {
        for (let i = 0; i < 3; i++) once();
        const out: Tensor[] = scope(() =>
          model.weights.flatMap((w, i) => [keep(w.transpose(0, 1).contiguous()), keep(model.biases[i].clone())]),
        );
        const values = await Promise.all(out.map((p) => p.data()));
        for (const p of out) p.dispose();
        return values;
      },
      dispose() {
        step?.dispose();
        optimizer.dispose();
        model.dispose();
        x.dispose();
        t.dispose();
        device.trim();
      },
    };
  };
}

function adds(device: Device): (given: Given) => Ready {
  return (given) => {
    const [x, b] = ['x', 'b'].map((key) => keep(tensor(device, given[key].data, { shape: given[key].shape })));
    const thousand = (): Tensor =>
      scope(() => {
        let y = x;
        for (let i = 0; i < 1000; i++) {
          const next = y.add(b);
          if (y !== x) y.dispose();
          y = next;
        }
        return y;
      });
    return {
      async run(count) {
        for (let i = 0; i < count; i++) thousand().dispose();
        await device.synchronize();
      },
      async result() {
        const y = thousand();
        const values = await y.data();
        y.dispose();
        return [values];
      },
      dispose() {
        x.dispose();
        b.dispose();
      },
    };
  };
}

export async function open(): Promise<Engine> {
  const device = await openDevice();
  await loadTuning(device);
  const scan = ({ u, delta, A, B, C }: Named): Tensor =>
    selectiveScan({ u, delta, A, B, C, deltaSoftplus: true }).add(u);
  const norm = ({ x, weight, bias }: Named): Tensor => addLayerNorm({ x, weight, bias });
  const conv = ({ x, w }: Named): Tensor => causalConv1d({ x, weight: w.transpose(0, 1) });
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return {
    version,
    adapter: device.adapter.description || device.adapter.device,
    works: {
      matmul: work(device, ({ a, b }) => [matmul(a, b)]),
      softmax: work(device, ({ x }) => [x.softmax(-1)]),
      gate: work(device, ({ x, y, z }) => [gate(x, y, z)]),
      gateGrad: gradientWork(device, ['x', 'y', 'z'], ({ x, y, z }) => gate(x, y, z)),
      conv: work(device, (t) => [conv(t)]),
      convGrad: gradientWork(device, ['x', 'w'], conv),
      layerNorm: work(device, (t) => [norm(t)]),
      layerNormGrad: gradientWork(device, ['x', 'weight', 'bias'], norm),
      mlp: perceptron(device),
      scan: work(device, (t) => [scan(t)]),
      scanGrad: gradientWork(device, ['u', 'delta', 'A', 'B', 'C'], scan),
      adds: adds(device),
    },
    close: () => device.destroy(),
  };
}
