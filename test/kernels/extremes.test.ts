// The fused kernels of a Mamba block against what they are made of, in general tensor operations, at operands that
// formulas trip over: nothing at all, ±1e4 and ±1e15, denormal products, infinities and NaN; forward and in every
// gradient. Where the general operations give no number, the kernel gives none, so that nothing hides. It may give none
// in more places (0 times what was carried from nowhere), but not in another sample.

import * as assert from 'uvu/assert';
import { concat, grad, linear, scope, stack, tensor, zeros, type Device, type Tensor } from '../../core/index.ts';
import {
  addLayerNorm,
  addRmsNorm,
  causalConv1d,
  mambaInner,
  selectiveScan,
  type Direction,
} from '../../kernels/index.ts';
import { gpuSuite, uniform } from '../support.ts';

const test = gpuSuite('fused kernels at extreme operands');

/** Scales and single values that an operand is given; a `spot` goes into the middle of it. */
const EXTREMES: Record<string, { scale?: number; spot?: number }> = {
  zero: { scale: 0 },
  thousands: { scale: 1e4 },
  huge: { scale: 1e15 },
  tiny: { scale: 1e-25 },
  'one NaN': { spot: NaN },
  'one infinity': { spot: Infinity },
  'one negative infinity': { spot: -Infinity },
};

const BATCH = 2;
const DENORMAL = 1.2e-38;

type Operands = Record<string, Tensor>;
type Compute = (operands: Operands) => Tensor;

const silu = (x: Tensor): Tensor => x.mul(x.sigmoid());

const tokens = (x: Tensor): Tensor[] => Array.from({ length: x.shape[1] }, (_, t) => x.slice(1, t, t + 1));

function convolution(direction: Direction): Compute {
  return ({ x, weight, bias }) => {
    const [taps, length] = [weight.shape[1], x.shape[1]];
    const steps = tokens(x);
    const out = steps.map((_, t) => {
      let sum = bias.expand(x.shape[0], 1, x.shape[2]);
      for (let w = 0; w < taps; w++) {
        const from = direction === 'forward' ? t - (taps - 1 - w) : t + (taps - 1 - w);
        const inside = from >= 0 && from < length;
        sum = sum.add((inside ? steps[from] : steps[0].zerosLike()).mul(weight.slice(1, w, w + 1).reshape(-1)));
      }
      return silu(sum);
    });
    return concat(out, 1);
  };
}

/** The recurrence, a token after the other. */
function recurrence(direction: Direction, soft: boolean): Compute {
  return ({ u, delta, A, B, C, D, z, deltaBias }) => {
    const length = u.shape[1];
    let h = zeros(u.device, [u.shape[0], u.shape[2], A.shape[1]]);
    const out: Tensor[] = [];
    for (let i = 0; i < length; i++) {
      const t = direction === 'forward' ? i : length - 1 - i;
      const at = (x: Tensor): Tensor => x.slice(1, t, t + 1).reshape(x.shape[0], x.shape[2]);
      const biased = at(delta).add(deltaBias);
      const s = (soft ? biased.softplus() : biased).unsqueeze(2);
      h = s
        .mul(A)
        .exp()
        .mul(h)
        .add(s.mul(at(B).unsqueeze(1)).mul(at(u).unsqueeze(2)));
      const y = h
        .mul(at(C).unsqueeze(1))
        .sum(2)
        .add(D.mul(at(u)));
      out[t] = y.mul(silu(at(z)));
    }
    return stack(out, 1);
  };
}

function inner(device: Device): { fused: Compute; composed: Compute } {
  const directions = (o: Operands) =>
    (['forward', 'reverse'] as const).map((side) => ({
      convWeight: o[`${side} conv`],
      convBias: o[`${side} conv bias`],
      xProj: o[`${side} xProj`],
      dtProj: o[`${side} dtProj`],
      dtBias: o[`${side} dtBias`],
      aLog: o[`${side} aLog`],
      D: o[`${side} D`],
    }));
  return {
    fused: (o) => {
      const [forward, reverse] = directions(o);
      return mambaInner({ xz: o.xz, forward, reverse });
    },
    composed: (o) => {
      const [x, z] = o.xz.split(o.xz.shape[2] / 2, 2);
      const [a, b] = (['forward', 'reverse'] as const).map((direction, i) => {
        const d = directions(o)[i];
        const u = convolution(direction)({ x, weight: d.convWeight, bias: d.convBias });
        const [dt, B, C] = linear(u, d.xProj).split([d.dtProj.shape[1], d.aLog.shape[1], d.aLog.shape[1]], 2);
        const A = d.aLog.exp().neg();
        const scanned = { u, delta: linear(dt, d.dtProj), A, B, C, D: d.D, z, deltaBias: d.dtBias };
        return recurrence(direction, true)(scanned);
      });
      assert.ok(device === o.xz.device);
      return a.add(b);
    },
  };
}

interface Case {
  readonly name: string;
  readonly shapes: Record<string, number[]>;
  /** Extremes that exceed f32 on the way, where the order of operations alone decides what comes out. */
  readonly exceeds?: (operand: string, kind: string) => boolean;
  readonly make?: Record<string, (v: number) => number>;
  readonly fused: Compute;
  readonly composed: Compute;
}

function kinds(device: Device): Case[] {
  const [batch, length, width, states, rank] = [BATCH, 5, 6, 3, 2];
  const tokensOf = (n: number): number[] => [batch, length, n];
  const scanShapes = {
    u: tokensOf(width),
    delta: tokensOf(width),
    A: [width, states],
    B: tokensOf(states),
    C: tokensOf(states),
    D: [width],
    z: tokensOf(width),
    deltaBias: [width],
  };
  const decaying = (v: number): number => -0.1 - Math.abs(v);
  const cases: Case[] = [];
  for (const direction of ['forward', 'reverse'] as const) {
    cases.push({
      name: `convolution, ${direction}`,
      shapes: { x: tokensOf(width), weight: [width, 4], bias: [width] },
      fused: ({ x, weight, bias }) => causalConv1d({ x, weight, bias, activation: 'silu', direction }),
      composed: convolution(direction),
    });
    for (const deltaSoftplus of [true, false]) {
      cases.push({
        name: `scan, ${direction}${deltaSoftplus ? ', softplus' : ''}`,
        shapes: scanShapes,
        // Without softplus a negative step size lets the state grow.
        make: { A: decaying, ...(!deltaSoftplus && { delta: Math.abs, deltaBias: Math.abs }) },
        fused: (o) =>
          selectiveScan({ ...(o as never as Parameters<typeof selectiveScan>[0]), deltaSoftplus, direction }) as Tensor,
        composed: recurrence(direction, deltaSoftplus),
      });
    }
  }
  const sides = (['forward', 'reverse'] as const).map((side) => [
    [`${side} conv`, [width, 4]],
    [`${side} conv bias`, [width]],
    [`${side} xProj`, [rank + 2 * states, width]],
    [`${side} dtProj`, [width, rank]],
    [`${side} dtBias`, [width]],
    [`${side} aLog`, [width, states]],
    [`${side} D`, [width]],
  ]);
  cases.push({
    name: 'Mamba block',
    exceeds: (operand, kind) => kind === 'huge' || (kind === 'thousands' && operand.endsWith('aLog')),
    shapes: Object.fromEntries([['xz', tokensOf(2 * width)], ...sides.flat()]) as Record<string, number[]>,
    ...inner(device),
  });
  for (const norm of ['rms', 'layer'] as const) {
    cases.push({
      name: `add + ${norm} norm`,
      shapes: { x: tokensOf(width), residual: tokensOf(width), weight: [width] },
      fused: ({ x, residual, weight }) => (norm === 'rms' ? addRmsNorm : addLayerNorm)({ x, residual, weight }),
      composed: ({ x, residual, weight }) => {
        const sum = x.add(residual);
        const centred = norm === 'rms' ? sum : sum.sub(sum.mean(-1, true));
        return centred.div(centred.mul(centred).mean(-1, true).add(1e-5).sqrt()).mul(weight);
      },
    });
  }
  return cases;
}

/** Elements of the only sample that has to do with the extreme value; all of them where all have. */
type Range = readonly [from: number, to: number];

/** Where two results part: the first element that is wrong, in words. */
function difference(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  [from, to]: Range,
  limit: number,
): string | undefined {
  let peak = 0;
  for (let i = 0; i < expected.length; i++) {
    if (Number.isFinite(expected[i])) peak = Math.max(peak, Math.abs(expected[i]));
  }
  for (let i = 0; i < expected.length; i++) {
    const [a, b] = [actual[i], expected[i]];
    const known = [a, b].map(Number.isFinite);
    const fine = known[0]
      ? known[1] && Math.abs(a - b) <= Math.max(limit * Math.abs(b), 0.01 * limit * peak, DENORMAL)
      : !known[1] || (i >= from && i < to);
    if (!fine) return `element ${i} is ${a}, the general operations give ${b}`;
  }
  return undefined;
}

test('as the general operations', async ({ device }) => {
  const wrong: string[] = [];
  for (const { name, shapes, exceeds, make, fused, composed } of kinds(device)) {
    const names = Object.keys(shapes);
    for (const [kind, { scale = 1, spot }] of Object.entries(EXTREMES)) {
      for (const extreme of names) {
        if (exceeds?.(extreme, kind)) continue;
        // A single value lies in the last sample, at its beginning, where a sample has values of its own.
        const ownSample = shapes[extreme].length === 3;
        const results = scope(() => {
          const leaves = names.map((each, seed) => {
            const size = shapes[each].reduce((a, b) => a * b, 1);
            const data = uniform(size, seed + 3).map((v) => (make?.[each]?.(v) ?? v) * (each === extreme ? scale : 1));
            if (each === extreme && spot !== undefined) data[size >> 1] = spot;
            return tensor(device, data, { shape: shapes[each], requiresGrad: true });
          });
          const operands = Object.fromEntries(names.map((each, i) => [each, leaves[i]]));
          return [fused, composed].map((compute) => {
            const y = compute(operands);
            return [y, ...grad(y, leaves, { gradient: tensor(device, uniform(y.numel, 77), { shape: y.shape }) })];
          });
        });
        for (const [i, title] of ['the result', ...names.map((each) => `the gradient of ${each}`)].entries()) {
          const [actual, expected] = results.map((each) => each[i]);
          const perSample = expected.shape.length === 3;
          const range: Range =
            spot === undefined ? [0, 0] : [perSample && ownSample ? expected.numel / BATCH : 0, Infinity];
          const found = difference(await actual.data(), await expected.data(), range, 1e-3);
          if (found !== undefined) wrong.push(`${name}, ${extreme}: ${kind}: of ${title}, ${found}`);
        }
        for (const t of results.flat()) t.dispose();
      }
    }
  }
  assert.is(wrong.length, 0, `${wrong.length}:\n${wrong.join('\n')}`);
});

test.run();
