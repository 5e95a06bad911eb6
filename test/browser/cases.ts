// What is tested in a browser. A case asserts against references of its own, or returns a value that must be the same when the
// case runs under Node, digit for digit or within a tolerance: the same source for both, on two implementations of WebGPU.

import * as assert from 'uvu/assert';
import {
  backward,
  capture,
  concat,
  Generator,
  grad,
  keep,
  matmul,
  noGrad,
  openDevice,
  philox4x32,
  scope,
  tensor,
  type Device,
  type Tensor,
} from '../../core/index.ts';
import { selectiveScan } from '../../kernels/index.ts';
import {
  AutoencoderKL,
  createDiffusion,
  DataLoader,
  Dis,
  disConfig,
  shapesDataset,
  shapesItem,
  Trainer,
  type DiffusionOptions,
  type StepRecord,
} from '../../models/index.ts';
import { hash32 } from '../../models/data/hash.ts';
import { readSafetensors, writeSafetensors, type SafetensorsEntry } from '../../nn/index.ts';
import { randomCase } from '../kernels/scanCase.ts';
import { scanReference } from '../reference/selectiveScan.ts';
import { assertClose, uniform } from '../support.ts';

export interface Case {
  readonly name: string;
  /** Allowed difference between the numbers returned here and under Node, relative to the largest; default 0, the same JSON. */
  readonly tolerance?: number;
  run(device: Device): unknown;
}

/** Runs a case; it must leave no tensor behind. */
export async function runCase({ run }: Case, device: Device): Promise<string> {
  const live = device.liveTensors;
  const value = (await run(device)) ?? null;
  assert.is(device.liveTensors, live, 'live tensors after the case');
  return JSON.stringify(value);
}

const PARTS = ['model', 'ema', 'optimizer'] as const;

const digest = (bytes: ArrayLike<number>): number => Array.from(bytes).reduce((hash, byte) => hash32(hash, byte), 0);

/** Reads tensors back and disposes of them. */
async function values(tensors: readonly Tensor[]): Promise<number[][]> {
  const read = await Promise.all(tensors.map((t) => t.data()));
  for (const t of tensors) t.dispose();
  return read.map((data) => Array.from(data));
}

const DIFFUSION: DiffusionOptions = { predictXstart: true, learnSigma: false };

/** A model of three blocks on 8 × 8 pixels; the caller disposes of it. */
function tinyModel(device: Device): Dis {
  using generator = new Generator(device, 1);
  return scope(
    () =>
      new Dis(
        generator,
        disConfig({ imgSize: 8, patchSize: 4, embedDim: 16, depth: 2, channels: 3, numClasses: 10, learnSigma: false }),
      ),
  );
}

/** A trainer of such a model, and the batches of shapes that it begins with. */
class TinyRun {
  readonly model: Dis;
  readonly diffusion;
  readonly trainer: Trainer;

  constructor(device: Device, capturing = true) {
    this.model = tinyModel(device);
    this.diffusion = createDiffusion(device, DIFFUSION);
    this.trainer = new Trainer({
      device,
      model: this.model,
      diffusion: this.diffusion,
      batchSize: 4,
      lr: 1e-3,
      emaDecay: 0.9,
      seed: 2,
      capture: capturing,
    });
  }

  /** Trains until `steps` are taken: losses, and gradient norms. */
  async train(steps: number): Promise<[number[], number[]]> {
    const loader = new DataLoader(shapesDataset({ size: 8 }), { batchSize: 4, cursor: this.trainer.cursor });
    const records: StepRecord[] = [];
    for await (const record of this.trainer.run(loader, { steps, pauseEvery: steps })) records.push(record);
    return [records.map(({ loss }) => loss), records.map(({ gradNorm }) => gradNorm)];
  }

  [Symbol.dispose](): void {
    this.trainer.dispose();
    this.diffusion.dispose();
    this.model.dispose();
  }
}

export const cases: readonly Case[] = [
  {
    name: 'shapes are drawn as under Node, pixel for pixel',
    run: () =>
      Array.from({ length: 20 }, (_, index) => digest(shapesItem(index, { size: 32, seed: 7, variation: 1 }).pixels)),
  },
  {
    name: 'safetensors are written as under Node, byte for byte, and read back',
    run() {
      const data = Float32Array.from({ length: 6 }, (_, i) => (i - 2.5) / 3);
      const tensors: [string, SafetensorsEntry][] = [['weight', { dtype: 'F32', shape: [2, 3], data }]];
      const file = writeSafetensors(tensors, [['made', 'here']]);
      assert.equal(readSafetensors(file).tensors.get('weight')?.data, data);
      return digest(file);
    },
  },
  {
    name: 'matmul is the product in float64, for sizes that fill no tile, plain and transposed',
    async run(device) {
      for (const [m, k, n] of [
        [1, 1, 1],
        [5, 7, 3],
        [33, 65, 23],
      ]) {
        const a = uniform(m * k, 1),
          b = uniform(k * n, 2);
        const expected = Float64Array.from({ length: m * n }, (_, at) => {
          let sum = 0;
          for (let i = 0; i < k; i++) sum += a[Math.floor(at / n) * k + i] * b[i * n + (at % n)];
          return sum;
        });
        const results = scope(() => {
          const x = tensor(device, a, { shape: [m, k] }),
            y = tensor(device, b, { shape: [k, n] });
          return [matmul(x, y), matmul(y.T, x.T).T.contiguous()];
        });
        for (const actual of await values(results)) assertClose(actual, expected, 1e-6, `${m} × ${k} × ${n}`);
      }
    },
  },
  {
    name: 'selective scan, both directions, and its gradients are those of the recurrence in float64',
    async run(device) {
      for (const reverse of [false, true]) {
        const data = randomCase(2, 37, 9, 4, { reverse });
        const { batch, length, channels, states } = data;
        const dout = uniform(data.u.length, 3);
        const expected = scanReference(data, dout);
        const names = ['u', 'delta', 'A', 'B', 'C', 'D', 'z', 'deltaBias'] as const;
        const token = [batch, length, channels],
          shared = [batch, length, states];
        const shapes = {
          u: token,
          delta: token,
          A: [channels, states],
          B: shared,
          C: shared,
          D: [channels],
          z: token,
          deltaBias: [channels],
        };
        const results = scope(() => {
          const inputs = names.map((name) => tensor(device, data[name]!, { shape: shapes[name], requiresGrad: true }));
          const [u, delta, A, B, C, D, z, deltaBias] = inputs;
          const out = selectiveScan({
            u,
            delta,
            A,
            B,
            C,
            D,
            z,
            deltaBias,
            deltaSoftplus: true,
            direction: reverse ? 'reverse' : 'forward',
          });
          return [out, ...grad(out.mul(tensor(device, dout, { shape: token })).sum(), inputs)].map((t) => t!);
        });
        const [out, ...gradients] = await values(results);
        assertClose(out, expected.out, 2e-5, 'out');
        names.forEach((name, i) => assertClose(gradients[i], expected.gradients[name], 5e-5, `gradient of ${name}`));
      }
    },
  },
  {
    name: 'random bits, whole and uniform numbers are those of Philox and of Node, bit for bit',
    async run(device) {
      using generator = new Generator(device, 2 ** 40 + 5);
      const [bits, whole, unit, coin] = await values([
        generator.bits([7]),
        generator.randint([9], -4, 1000),
        generator.uniform([9]),
        generator.bernoulli([9], 0.3),
      ]);
      const block = (position: number): number[] => philox4x32([position, 0, 0, 0], [5, 256]);
      assert.equal(bits, [...block(0), ...block(1)].slice(0, 7));
      return [bits, whole, unit, coin];
    },
  },
  {
    name: 'normal random numbers are those of Box and Muller in float64',
    async run(device) {
      using generator = new Generator(device, 9);
      const unit = (bits: number): number => ((bits >>> 8) + 0.5) * 2 ** -24;
      const expected = Array.from({ length: 1000 }, (_, position) => position).flatMap((position) => {
        const [a, b, c, d] = philox4x32([position, 0, 0, 0], [9, 0]).map(unit);
        return [
          [a, b],
          [c, d],
        ].flatMap(([u, v]) => [Math.cos, Math.sin].map((f) => Math.sqrt(-2 * Math.log(u)) * f(2 * Math.PI * v)));
      });
      assertClose((await values([generator.normal([4000])]))[0], expected, 1e-5);
    },
  },
  {
    name: 'a captured step with a gradient and random numbers, replayed, gives the bits of the step itself',
    async run(device) {
      const run = async (captured: boolean): Promise<number[]> => {
        using generator = new Generator(device, 4);
        const x = keep(tensor(device, uniform(24, 5), { shape: [4, 6], requiresGrad: true }));
        const body = (): void =>
          scope(() => {
            const noise = generator.normal([4, 6]);
            backward(x.mul(noise).silu().softmax(1).square().sum());
            x.detach().copy_(x.detach().sub(x.grad!));
            x.grad = null;
          });
        const step = captured ? capture(device, body) : null;
        if (!step) body();
        for (let i = 0; i < 3; i++)
          if (step) step.replay();
          else body();
        step?.dispose();
        return (await values([x]))[0];
      };
      assert.equal(await run(true), await run(false));
    },
  },
  {
    name: 'three training steps of DiS: losses and gradient norms are those of Node, captured as well as eager',
    tolerance: 1e-4,
    async run(device) {
      using captured = new TinyRun(device);
      using eager = new TinyRun(device, false);
      const records = await captured.train(3);
      assert.is(records[0].length, 3);
      assert.equal(records, await eager.train(3));
      return records;
    },
  },
  {
    name: 'a training state written to a file and read back goes on bit for bit',
    async run(device) {
      using whole = new TinyRun(device);
      using again = new TinyRun(device);
      await whole.train(2);
      const state = await whole.trainer.state();
      const [model, ema, optimizer] = PARTS.map((part) => {
        const entries = Array.from(state[part], ([name, { shape, data }]): [string, SafetensorsEntry] => [
          name,
          { dtype: 'F32', shape, data: data as Float32Array },
        ]);
        return readSafetensors(writeSafetensors(entries)).tensors;
      });
      again.trainer.loadState({
        model,
        ema,
        optimizer,
        json: JSON.parse(JSON.stringify(state.json)) as typeof state.json,
      });
      assert.equal(await again.train(4), await whole.train(4));
      const [a, b] = [await whole.trainer.state(), await again.trainer.state()];
      assert.equal(b.json, a.json);
      for (const part of PARTS)
        for (const [name, { data }] of a[part]) assert.equal(b[part].get(name)!.data, data, name);
    },
  },
  {
    name: 'guided sampling by DDIM draws the images of Node',
    tolerance: 1e-4,
    async run(device) {
      using model = tinyModel(device).eval();
      using diffusion = createDiffusion(device, { ...DIFFUSION, timestepRespacing: 'ddim4' });
      using generator = new Generator(device, 8);
      const labels = keep(tensor(device, Int32Array.of(0, 3, 10, 10)));
      const images = await diffusion.ddimSampleLoop(
        (x, t) => scope(() => model.forwardWithCfg(concat([x, x]), concat([t, t]), labels, 2.5).slice(0, 0, 2)),
        [2, 3, 8, 8],
        { generator },
      );
      labels.dispose();
      return values([images]);
    },
  },
  {
    name: 'an autoencoder decodes latents to the picture of Node',
    tolerance: 1e-4,
    async run(device) {
      using generator = new Generator(device, 9);
      using vae = scope(
        () => new AutoencoderKL(generator, { blockOutChannels: [4, 8], layersPerBlock: 1, normNumGroups: 2 }),
      );
      vae.eval();
      return values(
        noGrad(() =>
          scope(() => {
            const latents = tensor(device, uniform(4 * 4 * 4), { shape: [1, 4, 4, 4] });
            return [vae.fromLatents(latents)];
          }),
        ),
      );
    },
  },
  {
    name: 'a lost device is an error that says so',
    async run() {
      const device = await openDevice();
      const t = keep(tensor(device, [1, 2]));
      device.destroy();
      await device.lost;
      assert.throws(() => t.add(1), 'The device was destroyed');
    },
  },
];
