// Every form of the norm and optimizer kernels compiles under WebGPU's default limits, with all features and with none.

import * as assert from 'uvu/assert';
import type { FloatDType } from '../../core/index.ts';
import { normConfigs } from '../../kernels/add-norm/config.ts';
import { normBackward, normForward, normPartials } from '../../kernels/add-norm/launch.ts';
import { advanceAdamW, fusedAdamW } from '../../kernels/fused-adamw/fusedAdamW.ts';
import { globalNorm, globalNormPartials } from '../../kernels/fused-adamw/globalNorm.ts';
import { ADAMW_STATE_WORDS } from '../../kernels/fused-adamw/state.ts';
import { gpuSuite } from '../support.ts';
import { emptyOperand } from './support.ts';

const test = gpuSuite('norm and optimizer, compiled');

for (const without of [[], ['subgroups', 'shader-f16']]) {
  const label = without.length > 0 ? `without ${without.join(', ')}` : 'with all features';

  test(`add + norm, ${label}`, async ({ open }) => {
    const device = await open({ backend: 'null', defaultLimits: true, without });
    const types: FloatDType[] = device.has('shader-f16') ? ['f32', 'f16'] : ['f32'];
    const rows = 9;
    for (const width of [7, 368]) {
      for (const config of normConfigs(device, width)) {
        for (const type of types) {
          for (const norm of ['rms', 'layer'] as const) {
            for (const full of [true, false]) {
              const shape = { norm, rows, width };
              const make = (length: number, of: FloatDType = type): ReturnType<typeof emptyOperand> =>
                emptyOperand(device, length, of);
              const n = rows * width;
              const [x, stats, partial] = [make(n), make(rows * 4, 'f32'), make(normPartials(config, shape, 2), 'f32')];
              const factors = full ? make(3, 'f32') : null;
              const [weight, bias] = full ? [make(width), make(width)] : [null, null];
              const residual = make(n, 'f32');
              const residualOut = full ? make(n, 'f32') : null;
              normForward(
                device,
                { ...shape, eps: 1e-5, x, factors, samples: 3, residual, weight, bias, y: make(n), residualOut, stats },
                config,
              );
              normBackward(
                device,
                {
                  ...shape,
                  h: residualOut ?? x,
                  residual: residualOut ? null : residual,
                  factors: full ? 'after' : null,
                  weight,
                  stats,
                  dy: make(n),
                  dresidualOut: full ? make(n, 'f32') : null,
                  dx: make(n),
                  dresidual: make(n, 'f32'),
                  partial,
                  dweight: full ? make(width) : null,
                  dbias: full ? make(width) : null,
                },
                config,
              );
            }
          }
        }
      }
    }
    await device.synchronize();
    assert.ok(device.kernels.compiled > 0);
  });

  test(`optimizer, ${label}`, async ({ open }) => {
    const device = await open({ backend: 'null', defaultLimits: true, without });
    const half = device.has('shader-f16');
    for (const length of [7, 368]) {
      for (const type of (half ? ['f32', 'f16'] : ['f32']) as FloatDType[]) {
        for (const full of [true, false]) {
          for (const unroll of [1, 4]) {
            const [params, m, v, ema] = [0, 1, 2, 3].map(() => emptyOperand(device, length));
            const state = emptyOperand(device, ADAMW_STATE_WORDS);
            const grads = emptyOperand(device, length, type);
            const out = emptyOperand(device, 2);
            const form = { groups: 4, shared: full };
            globalNorm(device, [grads], { partial: emptyOperand(device, globalNormPartials(form, 1)), out }, form);
            advanceAdamW(device, state, full ? out : null);
            fusedAdamW(
              device,
              {
                state,
                params,
                grads,
                m,
                v,
                ...(full && { ema }),
                ...(full && half && { half: emptyOperand(device, length, 'f16') }),
              },
              { unroll },
            );
          }
        }
      }
    }
    await device.synchronize();
    assert.ok(device.kernels.compiled > 0);
  });
}

test.run();
