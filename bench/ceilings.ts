// What the adapter can do at most, measured with kernels that do one thing only.

import {
  defineKernel,
  empty,
  grid1d,
  keep,
  zeros,
  type Device,
  type KernelSource,
  type Tensor,
  type FloatDType,
} from '../core/index.ts';
import { measure, type MeasureOptions, type Measurement } from './measure.ts';
import type { Ceilings } from './work.ts';

const GROUP = 64;

const copyKernel = defineKernel<{ each: number }>('bench.copy', ({ each }) => ({
  bindings: [
    { name: 'a', type: 'array<vec4f>', access: 'read' },
    { name: 'b', type: 'array<vec4f>', access: 'write' },
  ],
  params: [{ name: 'count', type: 'u32' }],
  workgroupSize: [GROUP],
  body: `let begin = (wid.y * nwg.x + wid.x) * ${GROUP * each}u + li;
${Array.from({ length: each }, (_, k) => `if (begin + ${k * GROUP}u < p.count) { b[begin + ${k * GROUP}u] = a[begin + ${k * GROUP}u]; }`).join('\n')}`,
}));

/** A chain of operations in registers: `chains` independent ones, `p.rounds` times `UNROLL` long. */
const arithmeticKernel = defineKernel<{ op: 'fma' | 'exp'; type: FloatDType; vector: 1 | 4; chains: number }>(
  'bench.arithmetic',
  ({ op, type, vector, chains }): KernelSource => {
    const value = vector === 4 ? `vec4<${type}>` : type;
    const names = Array.from({ length: chains }, (_, k) => `s${k}`);
    // Values stay between 0 and 1: s ← 0.99 s + x, and s ← exp(-s).
    const round = names.map((s) => (op === 'fma' ? `${s} = fma(${s}, y, x);` : `${s} = exp(-${s});`)).join(' ');
    return {
      bindings: [{ name: 'out', type: 'array<f32>', access: 'write' }],
      params: [{ name: 'rounds', type: 'u32' }],
      workgroupSize: [GROUP],
      enable: type === 'f16' ? ['f16'] : [],
      body: `let x = ${value}(${type}(f32(flat & 1023u) * 1e-6));
let y = ${value}(${type}(0.99));
${names.map((s, k) => `var ${s} = ${value}(${type}(${k} + 1) / ${type}(${chains + 1})) + x;`).join('\n')}
for (var i = 0u; i < p.rounds; i++) {
${Array.from({ length: UNROLL }, () => `  ${round}`).join('\n')}
}
let sum = ${names.join(' + ')};
out[flat] = f32(${vector === 4 ? 'sum.x + sum.y + sum.z + sum.w' : 'sum'});`,
    };
  },
);

const UNROLL = 4;

/** Products of the matrix unit on values that stay in registers. */
const matrixKernel = defineKernel<{ M: number; N: number; K: number; lanes: number; chains: number }>(
  'bench.matrix',
  ({ M, N, K, lanes, chains }) => {
    const sums = Array.from({ length: chains }, (_, k) => `s${k}`);
    return {
      bindings: [
        { name: 'a', type: 'array<f16>', access: 'read' },
        { name: 'out', type: 'array<f32>', access: 'write' },
      ],
      params: [{ name: 'rounds', type: 'u32' }],
      workgroupSize: [lanes],
      enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
      body: `let left = subgroupMatrixLoad<subgroup_matrix_left<f16, ${K}, ${M}>, row_major>(&a, 0, ${K});
let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${N}, ${K}>, row_major>(&a, 0, ${N});
${sums.map((s) => `var ${s} = subgroup_matrix_result<f32, ${N}, ${M}>();`).join('\n')}
for (var i = 0u; i < p.rounds; i++) {
${sums.map((s) => `  ${s} = subgroupMatrixMultiplyAccumulate(left, right, ${s});`).join('\n')}
}
${sums.map((s, k) => `subgroupMatrixStore<row_major>(&out, (wid.x * ${chains}u + ${k}u) * ${M * N}u, ${s}, ${N});`).join('\n')}`,
    };
  },
);

const nothingKernel = defineKernel<object>('bench.nothing', () => ({
  bindings: [{ name: 'a', type: 'array<f32>', access: 'write' }],
  workgroupSize: [1],
  body: 'a[0] = 1;',
}));

/** The least seconds, by the GPU's timestamps or by the clock: a ceiling is not what a busy machine leaves of it. */
const best = ({ wall, gpu }: Measurement): number => Math.min(wall.least, gpu?.median ?? Infinity);

export interface CeilingOptions {
  readonly quick: boolean;
  readonly progress: (what: string) => void;
}

/** Measures everything that `limitOf` compares with. */
export async function measureCeilings(device: Device, { quick, progress }: CeilingOptions): Promise<Ceilings> {
  const settings = { batch: quick ? 0.01 : 0.03, seconds: quick ? 0.02 : 0.15 };
  const run: Run = (name, made, step) => measureAlone(device, name, made, step, settings);

  progress('copy');
  const copy: { footprint: number; rate: number }[] = [];
  const largest = Math.min(
    quick || device.adapter.software ? 2 ** 26 : 2 ** 29,
    device.limits.maxStorageBufferBindingSize,
  );
  for (const bytes of [2 ** 18, 2 ** 20, 2 ** 22, 2 ** 24, 2 ** 26, 2 ** 28, 2 ** 29].filter((b) => b <= largest)) {
    let rate = 0;
    for (const each of [1, 4]) {
      const [a, b] = [keep(zeros(device, [bytes / 4])), keep(empty(device, [bytes / 4]))];
      const m = await run('copy', [a, b], () =>
        device.run(copyKernel, { each }, [a, b], [bytes / 16], grid1d(bytes / 16 / each, GROUP)),
      );
      rate = Math.max(rate, (2 * bytes) / best(m));
    }
    copy.push({ footprint: 2 * bytes, rate });
  }

  progress('multiply-add');
  const f32 = await arithmeticRate(device, settings);
  const f16 = device.has('shader-f16') ? await arithmeticRate(device, settings, 'fma', 'f16') : null;
  progress('exp');
  const exp = await arithmeticRate(device, settings, 'exp');
  progress('matrix unit');
  const matrix = await matrixRate(device, run);

  progress('dispatch');
  const one = keep(empty(device, [1]));
  const count = 100;
  const dispatches = await run('dispatch', [one], () => {
    for (let i = 0; i < count; i++) device.run(nothingKernel, {}, [one], [], [1]);
  });
  return { copy, fma: { f32, f16 }, matrix, exp, dispatch: dispatches.wall.least / count };
}

type Run = (name: string, made: readonly Tensor[], step: () => void) => Promise<Measurement>;

/** Measures dispatches on tensors that are freed afterwards. */
function measureAlone(
  device: Device,
  name: string,
  made: readonly Tensor[],
  step: () => void,
  settings: MeasureOptions,
): Promise<Measurement> {
  return measure(
    device,
    {
      name,
      prepare: () => ({
        step,
        dispose: () => {
          for (const t of made) t.dispose();
        },
      }),
    },
    settings,
  );
}

/** Operations a second in registers: multiply-adds, counted as two, or exponentials. */
export async function arithmeticRate(
  device: Device,
  settings: MeasureOptions = { batch: 0.01, seconds: 0.02 },
  op: 'fma' | 'exp' = 'fma',
  type: FloatDType = 'f32',
): Promise<number> {
  const { software } = device.adapter;
  // Long enough that writing the result counts for nothing.
  const invocations = software ? 2 ** 13 : 2 ** 20,
    rounds = software ? 256 : 512;
  let rate = 0;
  for (const [vector, chains] of op === 'fma'
    ? ([
        [4, 8],
        [4, 4],
        [1, 8],
        [1, 16],
      ] as const)
    : ([
        [4, 2],
        [1, 4],
      ] as const)) {
    const out = keep(empty(device, [invocations]));
    const m = await measureAlone(
      device,
      op,
      [out],
      () => device.run(arithmeticKernel, { op, type, vector, chains }, [out], [rounds], grid1d(invocations, GROUP)),
      settings,
    );
    rate = Math.max(rate, (invocations * rounds * UNROLL * vector * chains) / best(m));
  }
  return op === 'fma' ? 2 * rate : rate;
}

async function matrixRate(device: Device, run: Run): Promise<number | null> {
  if (!device.has('subgroup-matrix') || !device.has('shader-f16') || !device.has('subgroups')) return null;
  let rate: number | null = null;
  const groups = 8192,
    rounds = 256,
    chains = 4,
    lanes = device.subgroupMaxSize;
  for (const { componentType, resultComponentType, M, N, K } of device.subgroupMatrixConfigs) {
    if (componentType !== 'f16' || resultComponentType !== 'f32') continue;
    const a = keep(zeros(device, [Math.max(M * K, K * N)], 'f16'));
    const out = keep(empty(device, [groups * chains * M * N]));
    const m = await run('matrix', [a, out], () =>
      device.run(matrixKernel, { M, N, K, lanes, chains }, [a, out], [rounds], [groups]),
    );
    rate = Math.max(rate ?? 0, (2 * groups * rounds * chains * M * N * K) / best(m));
  }
  return rate;
}
