// Noise schedules, respacing and learning rates against the official code's float64 values.

import * as assert from 'uvu/assert';
import {
  betaSchedule,
  respaceBetas,
  scheduleTables,
  spaceTimesteps,
  type NoiseSchedule,
  type ScheduleTables,
} from '../../models/diffusion/schedule.ts';
import { warmupCosine } from '../../nn/lrSchedule.ts';
import { cases, family, loadGolden, loadSidecar } from './support.ts';

interface SchedulesSidecar {
  timestep_maps: Record<string, number[]>;
  space_timesteps: Record<string, number[]>;
  squaredcos_cap_v2_steps: number;
}

/** The case name says how the process was made: `linear`, `respaced_<respacing>`, `cosine_respaced_<respacing>`, or a schedule. */
function processOf(
  name: string,
  sidecar: SchedulesSidecar,
  length: number,
): { schedule: NoiseSchedule; steps: number; respacing: string } {
  const respaced = /^(cosine_)?respaced_(.+)$/.exec(name);
  if (!respaced)
    return {
      schedule: name as NoiseSchedule,
      steps: name === 'squaredcos_cap_v2' ? sidecar.squaredcos_cap_v2_steps : length,
      respacing: '',
    };
  return {
    schedule: respaced[1] ? 'squaredcos_cap_v2' : 'linear',
    steps: sidecar.squaredcos_cap_v2_steps,
    respacing: respaced[2],
  };
}

const camelCase = (name: string): string => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

family(
  'diffusion/schedules',
  (test) => {
    const sidecar = loadSidecar<SchedulesSidecar>('diffusion/schedules');
    for (const [name, arrays] of cases(loadGolden('diffusion/schedules'))) {
      test(name, () => {
        const { schedule, steps, respacing } = processOf(name, sidecar, [...arrays.values()][0].data.length);
        const base = betaSchedule(schedule, steps);
        const { betas, timestepMap } = respaceBetas(base, spaceTimesteps(steps, respacing));
        const tables: ScheduleTables = scheduleTables(respacing === '' ? base : betas);
        if (sidecar.timestep_maps[name]) assert.equal([...timestepMap], sidecar.timestep_maps[name]);
        for (const [key, { data }] of arrays) {
          const actual = tables[camelCase(key) as keyof ScheduleTables];
          assert.ok(actual, `no table for ${key}`);
          assert.is(actual.length, data.length);
          for (let t = 0; t < data.length; t++) {
            const expected = Number(data[t]);
            assert.ok(
              Math.abs(actual[t] - expected) <= 1e-12 * Math.abs(expected),
              `${key}[${t}] is ${actual[t]}, reference ${expected}`,
            );
          }
        }
      });
    }
    for (const [key, expected] of Object.entries(sidecar.space_timesteps)) {
      test(`spaceTimesteps ${key}`, () => {
        const [steps, respacing] = key.split('|');
        assert.equal(spaceTimesteps(Number(steps), respacing), expected);
        if (/^[0-9,]+$/.test(respacing))
          assert.equal(spaceTimesteps(Number(steps), respacing.split(',').map(Number)), expected);
      });
    }
  },
  ['diffusion/schedules.safetensors', 'diffusion/schedules.json'],
);

family(
  'train/lr_schedule',
  (test) => {
    test('warm-up and cosine decay at fractional epochs', () => {
      const { args, points } = loadSidecar<{
        args: Record<'lr' | 'min_lr' | 'warmup_epochs' | 'epochs', number>;
        points: [number, number][];
      }>('train/lr_schedule');
      const schedule = warmupCosine({
        lr: args.lr,
        minLr: args.min_lr,
        warmup: args.warmup_epochs,
        total: args.epochs,
      });
      for (const [epoch, lr] of points)
        assert.ok(Math.abs(schedule(epoch) - lr) <= 1e-12 * lr, `epoch ${epoch}: ${schedule(epoch)}, reference ${lr}`);
    });
  },
  ['train/lr_schedule.json'],
);
