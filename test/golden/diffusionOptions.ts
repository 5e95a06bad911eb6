// What the files of a reference folder say of a diffusion process, as options of ours.

import { spaceTimesteps } from '../../models/diffusion/schedule.ts';
import type { DiffusionModel, DiffusionOptions } from '../../models/diffusion/index.ts';
import { concat, type Tensor } from '../../core/index.ts';

/** Arguments of the official create_diffusion. */
const ARGUMENTS = [
  'timestep_respacing',
  'noise_schedule',
  'use_kl',
  'sigma_small',
  'predict_xstart',
  'learn_sigma',
  'rescale_learned_sigmas',
  'diffusion_steps',
] as const;

export const camelCase = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/**
 * Options from the arguments of create_diffusion among the entries of `official`. Where there is a timestep map and no
 * number of steps, the process has as many as its map tells.
 */
export function diffusionOptions(official: object, timestepMap?: readonly number[]): DiffusionOptions {
  const given = official as Readonly<Record<string, unknown>>;
  const options = Object.fromEntries(
    ARGUMENTS.filter((name) => given[name] !== undefined).map((name) => [camelCase(name), given[name]]),
  ) as DiffusionOptions;
  if (!timestepMap || options.diffusionSteps !== undefined) return options;
  return { ...options, diffusionSteps: stepsOfMap(String(options.timestepRespacing ?? ''), timestepMap) };
}

/**
 * The number of steps of which `respacing` keeps those in `map`: one of `likely`, 1000, or what the map itself
 * suggests.
 */
export function stepsOfMap(respacing: string, map: readonly number[], likely: readonly number[] = []): number {
  const last = map[map.length - 1];
  const stride = map.length > 1 ? map[1] - map[0] : 1;
  // A stride (ddimN) gives the same map for several numbers of steps, of which it divides one.
  for (const steps of [...likely, 1000, last + 1, stride * map.length]) {
    try {
      const kept = spaceTimesteps(steps, respacing);
      if (kept.length === map.length && kept.every((t, i) => t === map[i])) return steps;
    } catch {
      // This number of steps cannot be cut like that.
    }
  }
  throw new Error(`no number of steps found of which "${respacing}" keeps ${map.slice(0, 5).join(', ')} … ${last}`);
}

/**
 * The closed-form model that a sidecar describes, `concat_channels(SUM, SUM)` of multiples of x_t and of t. `parts` is
 * 1 where the variance is fixed: it then has no second half.
 *
 * @throws Error where the description is none
 */
export function closedFormModel(description: string, parts: number): DiffusionModel {
  const halves = /concat_channels\(([^,()]+),([^,()]+)\)/.exec(description)?.slice(1);
  if (!halves) throw new Error(`no formula in "${description}"`);
  const [mean, variance] = halves.map(multiples);
  const of = ({ x: ofX, t: ofT }: { x: number; t: number }, x: Tensor, t: Tensor): Tensor =>
    ofT === 0 ? x.mul(ofX) : x.mul(ofX).add(t.cast('f32').mul(ofT).reshape(-1, 1, 1, 1));
  return (x, t) => (parts === 2 ? concat([of(mean, x, t), of(variance, x, t)], 1) : of(mean, x, t));
}

/** The factors of x_t and t in a sum such as `-0.1*x_t + 1e-2*t/1000`. */
function multiples(sum: string): { x: number; t: number } {
  const found = { x: 0, t: 0 };
  const rest = sum
    .replace(/\s+/g, '')
    .replace(
      /([+-]*)(?:(\d*\.?\d+(?:e[+-]?\d+)?)\*)?(x_t|t)(?:\/(\d*\.?\d+(?:e[+-]?\d+)?))?/gi,
      (_, signs: string, factor = '1', name: string, divisor = '1') => {
        const sign = signs.split('-').length % 2 === 1 ? 1 : -1;
        found[name === 'x_t' ? 'x' : 't'] += (sign * Number(factor)) / Number(divisor);
        return '';
      },
    );
  if (rest !== '') throw new Error(`"${sum}" is no sum of multiples of x_t and t: ${rest} is left over`);
  return found;
}
