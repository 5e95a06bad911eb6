// The tables in core/tuning/tuned against the kernels of this build: a configuration that is no longer accepted is ignored in silence, and
// the device computes by rule of thumb.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Device, FloatDType } from '../../../core/index.ts';
import { gemmTunable } from '../../../core/gemm/index.ts';
import type { GemmLayout, GemmProblem } from '../../../core/gemm/index.ts';
import { TABLES } from '../../../core/tuning/tuned/tables.ts';
import { backwardTunable, forwardTunable } from '../../../kernels/selective-scan/tunable.ts';

const test = suite('shipped tuning');

/** What the tunables look at, of an NVIDIA GPU. */
const device = {
  adapter: { software: false, vendor: 'nvidia' },
  has: () => true,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  limits: { maxComputeWorkgroupStorageSize: 49152, maxComputeInvocationsPerWorkgroup: 1024 },
  subgroupMatrixConfigs: [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }],
} as unknown as Device;

/** `2^8.5` and `3` as numbers: a size of that bucket. */
const sizes = (text: string): number[] =>
  text.split('×').map((n) => (n.startsWith('2^') ? Math.round(2 ** Number(n.slice(2))) : Number(n)));

/** `f16t`, `f32u`: the type of an operand and how it lies. */
function layout(text: string, rows: number, columns: number): GemmLayout {
  const transposed = /^f\d+t/.test(text);
  return {
    offset: 0,
    rowStride: transposed ? rows : columns,
    transposed,
    dtype: text.startsWith('f16') ? 'f16' : 'f32',
  };
}

function acceptedProduct(key: string, config: unknown): boolean {
  const [, batch = '1', mnk, a, b, c] = /^gemm (?:(\S+) of )?(\S+) (\S+) (\S+) (\S+)$/.exec(key)!;
  const [M, N, K] = sizes(mnk);
  const problem: GemmProblem = {
    ...{ M, N, K, batch: sizes(batch)[0] },
    ...{ a: layout(a, M, K), b: layout(b, K, N), c: layout(c, M, N) },
  };
  return gemmTunable.accepts(device, problem, config);
}

function acceptedScan(key: string, config: unknown): boolean {
  const [, pass, size, both, dtype, saving] =
    /^scan (forward|backward) (\S+) (both )?(f32|f16)(?: saving (\d+))?$/.exec(key)!;
  const [batch, length, channels, states] = sizes(size);
  const problem = { batch, length, channels, states, directions: both ? 2 : 1, dtype: dtype as FloatDType };
  if (pass === 'backward') return backwardTunable.accepts(device, problem, config);
  // Without gradients the interval counts for nothing.
  const saveInterval = saving ? Number(saving) : 8;
  return forwardTunable.accepts(device, { ...problem, saveInterval, save: saving !== undefined }, config);
}

test('every configuration of the shipped tables is one that this build computes', async () => {
  for (const table of TABLES) {
    const { configs } = await table.load();
    for (const [config, keys] of configs) {
      if (config === null) continue;
      for (const key of keys)
        assert.ok(
          (key.startsWith('gemm') ? acceptedProduct : acceptedScan)(key, config),
          `${table.device}, ${table.tier}, ${key}: ${JSON.stringify(config)}`,
        );
    }
  }
});

test.run();
