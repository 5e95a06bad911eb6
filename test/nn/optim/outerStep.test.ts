// The outer step of DiLoCo against float64: two workers with optimizers of their own, targets of their own and odd sizes.

import * as assert from 'uvu/assert';
import { backward, noGrad, ones, scope, tensor, type Device } from '../../../core/index.ts';
import { FusedAdamW, Module, OuterStep, parameter } from '../../../nn/index.ts';
import { assertClose, gpuSuite, uniform } from '../../support.ts';

const test = gpuSuite('outer step');

const SIZES = { a: [7], b: [3, 43] } as const;
const LR = 0.05,
  BETAS = [0.9, 0.99] as const,
  EPS = 1e-8,
  DECAY = 0.02;

type Values = Record<keyof typeof SIZES, Float64Array>;

const numel = (name: keyof typeof SIZES): number => (SIZES[name] as readonly number[]).reduce((x, y) => x * y, 1);
const each = (of: (name: keyof typeof SIZES) => Float64Array): Values => ({ a: of('a'), b: of('b') });

class Worker extends Module {
  readonly a: ReturnType<typeof parameter>;
  readonly b: ReturnType<typeof parameter>;

  constructor(device: Device, values: Values) {
    super();
    const made = (name: keyof typeof SIZES) =>
      parameter(scope(() => tensor(device, Float32Array.from(values[name])).reshape(...SIZES[name])));
    this.a = made('a');
    this.b = made('b');
  }
}

/** Algorithm 1 of the paper with AdamW inside, in float64: what the parameters and the momentum are after each round. */
function reference(
  first: Values,
  targets: readonly Values[],
  { rounds, every, lr, momentum }: { rounds: number; every: number; lr: number; momentum: number },
): { params: Values; moment: Values }[] {
  const out: { params: Values; moment: Values }[] = [];
  const begin = each((name) => Float64Array.from(first[name]));
  const moment = each((name) => new Float64Array(numel(name)));
  const workers = targets.map(() => ({
    m: each((name) => new Float64Array(numel(name))),
    v: each((name) => new Float64Array(numel(name))),
    p: each((name) => Float64Array.from(first[name])),
  }));
  let t = 0;
  for (let round = 0; round < rounds; round++) {
    for (let step = 0; step < every; step++) {
      t++;
      for (const [w, { m, v, p }] of workers.entries())
        for (const name of ['a', 'b'] as const)
          for (let i = 0; i < numel(name); i++) {
            const g = 2 * (p[name][i] - targets[w][name][i]);
            m[name][i] += (g - m[name][i]) * (1 - BETAS[0]);
            v[name][i] = BETAS[1] * v[name][i] + (1 - BETAS[1]) * g * g;
            const corrected = Math.sqrt(v[name][i] / (1 - BETAS[1] ** t)) + EPS;
            p[name][i] = p[name][i] * (1 - LR * DECAY) - ((LR / (1 - BETAS[0] ** t)) * m[name][i]) / corrected;
          }
    }
    for (const name of ['a', 'b'] as const)
      for (let i = 0; i < numel(name); i++) {
        const g = begin[name][i] - workers.reduce((sum, { p }) => sum + p[name][i], 0) / workers.length;
        moment[name][i] = momentum * moment[name][i] + g;
        begin[name][i] -= lr * (g + momentum * moment[name][i]);
        for (const { p } of workers) p[name][i] = begin[name][i];
      }
    const copy = (of: Values): Values => each((name) => Float64Array.from(of[name]));
    out.push({ params: copy(begin), moment: copy(moment) });
  }
  return out;
}

const random = (seed: number): Values => each((name) => Float64Array.from(uniform(numel(name), seed + name.length)));

/** The gradient of the squared distance from the target: what `backward` of that loss gives. */
function train(worker: Worker, optimizer: FusedAdamW, target: Values, device: Device): void {
  scope(() => {
    const loss = (['a', 'b'] as const)
      .map((name) => {
        const difference = worker[name].sub(tensor(device, Float32Array.from(target[name])).reshape(...SIZES[name]));
        return difference.mul(difference).sum();
      })
      .reduce((sum, term) => sum.add(term));
    backward(loss, optimizer.backwardOptions());
    optimizer.step();
  });
}

for (const [lr, momentum] of [
  [0.7, 0.9],
  [1, 0],
] as const)
  test(`two workers, rate ${lr} and momentum ${momentum}`, async ({ device }) => {
    const [rounds, every] = [4, 3];
    const first = random(1),
      targets = [random(11), random(21)];
    const expected = reference(first, targets, { rounds, every, lr, momentum });
    const workers = targets.map(() => {
      const worker = new Worker(device, first);
      const optimizer = new FusedAdamW(worker, { lr: LR, betas: BETAS, eps: EPS, weightDecay: DECAY });
      return { worker, optimizer, outer: new OuterStep(optimizer, { lr, momentum }) };
    });
    for (let round = 0; round < rounds; round++) {
      for (const [w, { worker, optimizer }] of workers.entries())
        for (let step = 0; step < every; step++) train(worker, optimizer, targets[w], device);
      noGrad(() =>
        scope(() => {
          const mean = workers
            .map(({ optimizer }) => optimizer.params.flat)
            .reduce((sum, flat) => sum.add(flat))
            .mul(0.5);
          for (const { outer } of workers) outer.step(mean.clone());
        }),
      );
      for (const { worker, outer } of workers) {
        const state = await outer.saveState();
        for (const name of ['a', 'b'] as const) {
          assertClose(await worker[name].data(), expected[round].params[name], 2e-6, `${name}, round ${round}`);
          const { shape, data } = state.get(`outer.${name}`)!;
          assert.equal(shape, SIZES[name]);
          assertClose(data as Float32Array, expected[round].moment[name], 2e-6, `moment of ${name}, round ${round}`);
        }
      }
    }
    for (const { worker, optimizer, outer } of workers) for (const made of [outer, optimizer, worker]) made.dispose();
  });

test('a state that is missing, or of another shape, changes nothing; wrong rates are refused', async ({ device }) => {
  const worker = new Worker(device, random(1));
  const optimizer = new FusedAdamW(worker);
  assert.throws(() => new OuterStep(optimizer, { lr: 0 }), /lr is 0, expected a finite number above 0/);
  assert.throws(() => new OuterStep(optimizer, { momentum: 1 }), /momentum is 1, expected 0 to below 1/);
  const outer = new OuterStep(optimizer);
  const before = await outer.saveState();
  assert.throws(() => outer.loadState(new Map([...before].slice(0, 1))), /outer\.\w is missing in the state/);
  const wrong = new Map(before).set('outer.a', { shape: [5], data: new Float32Array(5) });
  assert.throws(() => outer.loadState(wrong), /outer\.a has shape \(5,\) in the state, expected \(7,\)/);
  const other = new Map(
    Array.from(before, ([name, { shape, data }]) => [name, { shape, data: (data as Float32Array).map(() => 3) }]),
  );
  outer.loadState(other);
  assert.equal(await outer.saveState(), other);
  const gradient = ones(device, [optimizer.params.flat.numel]);
  outer.step(gradient);
  for (const made of [gradient, outer, optimizer, worker]) made.dispose();
});

test.run();
