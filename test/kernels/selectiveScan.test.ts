// The scan's kernels against the float64 recurrence: sizes that fill no vector, no stretch and no workgroup, every
// optional argument, both directions, with all features and with WebGPU's default limits and none.

import * as assert from 'uvu/assert';
import type { Device } from '../../core/gpu/device.ts';
import { backwardKernel } from '../../kernels/selective-scan/backward.ts';
import { forwardKernel } from '../../kernels/selective-scan/forward.ts';
import {
  backwardBytes,
  backwardPlans,
  forwardLayouts,
  seamBytes,
  type BackwardPlan,
  type ForwardLayout,
  type ScanAdapter,
} from '../../kernels/selective-scan/plan.ts';
import { assertClose } from '../golden/support.ts';
import { scanReference } from '../reference/selectiveScan.ts';
import { gpuSuite } from '../support.ts';
import {
  generator,
  problemOf,
  randomCase,
  runBackward,
  runForward,
  values,
  type CaseOptions,
  type ScanCase,
} from './scanCase.ts';

const FORWARD = 2e-5;
const BACKWARD = 5e-5;

const CASES: [name: string, batch: number, length: number, channels: number, states: number, options: CaseOptions][] = [
  ['one token, one channel, one state', 1, 1, 1, 1, {}],
  ['7 tokens', 2, 7, 9, 16, {}],
  ['55 tokens, 5 states', 1, 55, 3, 5, {}],
  ['66 tokens reversed', 2, 66, 5, 16, { reverse: true }],
  ['258 tokens', 1, 258, 10, 16, {}],
  ['20 states', 1, 19, 2, 20, { reverse: true }],
  ['3 states, nothing optional', 1, 33, 11, 3, { z: false, D: false, deltaBias: false, deltaSoftplus: false }],
  ['no gate', 2, 32, 4, 8, { z: false }],
  ['no softplus', 1, 31, 4, 4, { deltaSoftplus: false, deltaBias: false }],
];

/** An adapter that offers the plans of a GPU, with this one's subgroups or with none. */
function gpuLike(device: Device, subgroups: boolean): ScanAdapter {
  const { subgroupMinSize } = device;
  return {
    limits: device.limits,
    adapter: { software: false },
    has: (feature) => subgroups && feature === 'subgroups',
    subgroupMinSize: subgroups ? subgroupMinSize : 0,
    subgroupMaxSize: subgroups ? 2 * subgroupMinSize : 0,
  };
}

/**
 * As many of `items` as show each value of each property once; how many teams or chunks there are counts only as one or
 * several. A driver that compiles on the CPU takes ten seconds for one of them. That all of them compile is tested
 * below.
 */
function withEveryValue<T>(items: readonly T[], propertiesOf: (item: T) => object): T[] {
  const met = new Set<string>();
  return items.filter((item) => {
    const values = Object.entries(propertiesOf(item)).map(
      ([name, value]) => `${name} ${name === 'teams' || name === 'chunks' ? value > 1 : value}`,
    );
    const isNew = values.some((value) => !met.has(value));
    for (const value of values) met.add(value);
    return isNew;
  });
}

const DEVICES = [
  ['all features', {}],
  ['default limits', { defaultLimits: true, without: ['subgroups', 'shader-f16'] }],
] as const;

for (const [title, options] of DEVICES) {
  const test = gpuSuite(`selective scan, ${title}`, { device: options });

  for (const [name, batch, length, channels, states, caseOptions] of CASES) {
    test(name, async ({ device }) => {
      const data = randomCase(batch, length, channels, states, caseOptions);
      const dout = values(batch * length * channels, generator(99));
      const expected = scanReference(data, dout);
      const { out, lastState } = await runForward(device, problemOf(device, [data]));
      assertClose(out, expected.out, FORWARD, 'out');
      assertClose(lastState, expected.lastState, FORWARD, 'lastState');
      const [gradients] = await runBackward(device, problemOf(device, [data]), dout);
      compare(gradients, expected.gradients, data);
    });
  }

  test('both directions at once', async ({ device }) => {
    const forward = randomCase(2, 37, 9, 16, {});
    const reverse = { ...randomCase(2, 37, 9, 16, { reverse: true, seed: 5 }), z: forward.z };
    const dout = values(2 * 37 * 9, generator(98));
    const expected = [scanReference(forward, dout), scanReference(reverse, dout)];
    const { out } = await runForward(device, problemOf(device, [forward, reverse]));
    assertClose(
      out,
      expected[0].out.map((y, i) => y + expected[1].out[i]),
      FORWARD,
      'out',
    );
    const gradients = await runBackward(device, problemOf(device, [forward, reverse]), dout);
    const z = expected[0].gradients.z.map((g, i) => g + expected[1].gradients.z[i]);
    [forward, reverse].forEach((data, i) => compare(gradients[i], { ...expected[i].gradients, z }, data));
  });

  if (title === 'all features') {
    test('both directions with every property of a layout that a tuner can choose', async ({ device }) => {
      for (const [env, states] of [
        [gpuLike(device, true), 8],
        [gpuLike(device, false), 16],
      ] as const) {
        const cases = [{}, { reverse: true, seed: 5 }].map((options) => randomCase(2, 55, 21, states, options));
        const [forward, reverse] = cases;
        reverse.z = forward.z;
        const dout = values(2 * 55 * 21, generator(94));
        const expected = [scanReference(forward, dout), scanReference(reverse, dout)];
        const both = problemOf(device, cases);
        const size = { batch: 2, length: 55, channels: 21, states, directions: 2 };
        const check = async (
          { saveInterval, layout }: BackwardPlan,
          first: ForwardLayout,
          backwardToo: boolean,
        ): Promise<void> => {
          const problem = { ...both, plan: { quads: states / 4, saveInterval, forward: first, backward: layout } };
          const text = JSON.stringify(backwardToo ? layout : first);
          const { out, lastState } = await runForward(device, problem);
          assertClose(
            out,
            expected[0].out.map((y, i) => y + expected[1].out[i]),
            FORWARD,
            `out ${text}`,
          );
          assertClose(lastState, expected[0].lastState, FORWARD, `last state ${text}`);
          if (!backwardToo) return;
          const gradients = await runBackward(device, problem, dout);
          const z = expected[0].gradients.z.map((g, i) => g + expected[1].gradients.z[i]);
          [forward, reverse].forEach((data, i) => compare(gradients[i], { ...expected[i].gradients, z }, data, text));
        };
        const plans = backwardPlans(env, size);
        // Those that are small to compile come last.
        for (const plan of withEveryValue(plans.toReversed(), ({ saveInterval, layout }) => ({
          saveInterval,
          ...layout,
        })))
          await check(plan, forwardLayouts(env, size, plan.saveInterval)[0], true);
        const layouts = forwardLayouts(env, size, plans[0].saveInterval);
        for (const layout of withEveryValue(layouts, (each) => each)) await check(plans[0], layout, false);
      }
    });
  }

  test('small and large steps', async ({ device }) => {
    const data = randomCase(1, 40, 5, 16, {});
    // Steps from e^-12 to beyond the softplus threshold of 20.
    data.delta.forEach((_, i) => {
      data.delta[i] = -12 + (i % 37);
    });
    const dout = values(data.delta.length, generator(97));
    const expected = scanReference(data, dout);
    assertClose((await runForward(device, problemOf(device, [data]))).out, expected.out, FORWARD, 'out');
    compare((await runBackward(device, problemOf(device, [data]), dout))[0], expected.gradients, data);
  });

  test('a batch in parts, the same bits', async ({ device }) => {
    const cases = [randomCase(5, 9, 17, 16, {}), randomCase(5, 9, 17, 16, { reverse: true, seed: 2 })];
    const problem = problemOf(device, cases);
    const dout = values(5 * 9 * 17, generator(95));
    assert.equal(await runBackward(device, problem, dout, 1), await runBackward(device, problem, dout));
  });

  test('the same bits twice', async ({ device }) => {
    const data = randomCase(2, 40, 17, 16, {});
    const dout = values(2 * 40 * 17, generator(96));
    const problem = problemOf(device, [data]);
    assert.equal(await runBackward(device, problem, dout), await runBackward(device, problem, dout));
  });
  test.run();
}

const plans = gpuSuite('selective scan, layouts');
plans(
  'fit every adapter, every number of states and every size, and compile under the default limits',
  async ({ open }) => {
    const device = await open({ backend: 'null', defaultLimits: true });
    const sizes = [
      [4, 4],
      [8, 8],
      [8, 32],
      [16, 16],
      [32, 32],
      [32, 64],
      [64, 64],
      [128, 128],
    ];
    for (const [subgroupMinSize, subgroupMaxSize] of [[0, 0], ...sizes]) {
      const env: ScanAdapter = {
        limits: device.limits,
        adapter: { software: false },
        has: (feature) => feature === 'subgroups' && subgroupMinSize > 0,
        subgroupMinSize,
        subgroupMaxSize,
      };
      for (const states of [1, 3, 5, 8, 16, 20, 64, 128]) {
        for (const [batch, length] of [
          [1, 1026],
          [64, 258],
        ]) {
          const size = { batch, length, channels: 736, states, directions: 2 };
          const compiles = !subgroupMinSize || device.has('subgroups');
          for (const { saveInterval, layout } of backwardPlans(env, size)) {
            const forward = forwardLayouts(env, size, saveInterval);
            for (const one of [layout, ...forward]) {
              const { width, teams, chunks, stretch, split } = one;
              assert.is(saveInterval % stretch, 0);
              assert.is(((states + 3) >> 2) % split, 0);
              assert.ok(width * teams * chunks <= 256);
              assert.ok(seamBytes((states + 3) >> 2, one) <= 16384);
            }
            assert.ok(backwardBytes((states + 3) >> 2, { saveInterval, layout }) <= 16384);
            if (!compiles) continue;
            for (const [first, direction] of (['forward', 'reverse'] as const).entries()) {
              // What differs in f16 are the types of what is bound, whatever the number of states.
              for (const dtype of states === 16 && device.has('shader-f16')
                ? (['f32', 'f16'] as const)
                : (['f32'] as const)) {
                const variant = {
                  quads: (states + 3) >> 2,
                  saveInterval,
                  dtype,
                  directions: [direction],
                  first,
                  softplus: true,
                };
                for (const one of forward)
                  device.kernels.get(forwardKernel, { ...variant, layout: one, gate: true, save: true, total: 2 });
                device.kernels.get(backwardKernel, { ...variant, layout });
              }
            }
          }
        }
      }
    }
    await device.kernels.settled();
    device.check();
  },
);
plans.run();

function compare(
  actual: Partial<Record<string, Float64Array>>,
  expected: Record<string, Float64Array>,
  data: ScanCase,
  context = '',
): void {
  for (const [name, gradient] of Object.entries(actual))
    assertClose(gradient!, expected[name], BACKWARD, `gradient of ${name} ${context}`);
  assert.is('z' in actual, data.z !== undefined);
}
