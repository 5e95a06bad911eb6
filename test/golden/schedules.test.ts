// Noise schedules, respacing and learning rates against the official code's float64 values.

import * as assert from 'uvu/assert';
import {
  betaSchedule,
  NOISE_SCHEDULES,
  respaceBetas,
  scheduleTables,
  spaceTimesteps,
  type NoiseSchedule,
  type ScheduleTables,
} from '../../models/diffusion/schedule.ts';
import { warmupCosine } from '../../nn/lrSchedule.ts';
import { camelCase, stepsOfMap } from './diffusionOptions.ts';
import { cases, family, loadGolden, loadSidecar } from './support.ts';

interface SchedulesSidecar {
  timestep_maps: Record<string, number[]>;
  space_timesteps: Record<string, number[]>;
  /** `<schedule>_steps`, where it says them. */
  [steps: string]: unknown;
}

/**
 * The case name says how a process was made: the schedule (`cosine` is squaredcos_cap_v2, none is linear), perhaps its
 * number of steps (`linear200`), and perhaps `respaced_<respacing>`. What isn't respaced has as many steps as values.
 */
function processOf(
  name: string,
  sidecar: SchedulesSidecar,
  lengths: ReadonlyMap<string, number>,
): { schedule: NoiseSchedule; steps: number; respacing: string } {
  const [, base, respacing] = /^(?:(.+?)_)?respaced_(.+)$/.exec(name) ?? [name, name, ''];
  const { schedule, digits } = scheduleOf(base);
  if (respacing === '') return { schedule, steps: lengths.get(name)!, respacing };
  if (digits !== '') return { schedule, steps: Number(digits), respacing };
  const likely = [base, schedule].flatMap((key) => [sidecar[`${key}_steps`], lengths.get(key)]);
  return {
    schedule,
    steps: stepsOfMap(
      respacing,
      sidecar.timestep_maps[name],
      likely.filter((steps) => typeof steps === 'number'),
    ),
    respacing,
  };
}

function scheduleOf(base = 'linear'): { schedule: NoiseSchedule; digits: string } {
  const spelled = base.replace(/^cosine/, 'squaredcos_cap_v2');
  const schedule = NOISE_SCHEDULES.find((name) => spelled.startsWith(name));
  const digits = schedule && spelled.slice(schedule.length).replace(/^_/, '');
  if (schedule === undefined || !/^\d*$/.test(digits!)) throw new Error(`no schedule of ours is called ${base}`);
  return { schedule, digits: digits! };
}

family(
  'diffusion/schedules',
  (test) => {
    const sidecar = loadSidecar<SchedulesSidecar>('diffusion/schedules');
    const processes = cases(loadGolden('diffusion/schedules'));
    const lengths = new Map(Array.from(processes, ([name, arrays]) => [name, [...arrays.values()][0].data.length]));
    for (const [name, arrays] of processes) {
      test(name, () => {
        const { schedule, steps, respacing } = processOf(name, sidecar, lengths);
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
              actual[t] === expected || Math.abs(actual[t] - expected) <= 1e-12 * Math.abs(expected),
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
