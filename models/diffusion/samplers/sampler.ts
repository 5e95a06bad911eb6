// What a sampler is. It says which numbers of the schedule it needs, what it remembers from earlier steps, and how a
// step goes, all as data and expressions: a step is then one dispatch behind the model's, and the loop, capture,
// guidance, img2img and inpainting know no sampler's name.

import type { Expr, Tensor } from '../../../core/index.ts';
import type { Coefficient, Columns } from '../coefficients.ts';
import { drawNoise, type NoiseOptions } from '../noise.ts';
import type { DiffusionModel, DiffusionProcess } from '../process.ts';
import {
  reverseStep,
  type DenoiseOptions,
  type Guidance,
  type GuidanceOptions,
  type ReverseExpr,
} from '../reverseProcess.ts';
import type { DiffusionSettings } from '../settings.ts';
import type { CoefficientExpr } from '../timestepOp.ts';

/** What the expressions of a step are made of. Column names a sampler's own coefficients, Memory what it remembers. */
export interface StepElements<Column extends string, Memory extends string> {
  /** x_t. */
  readonly x: Expr;
  /** p(x_{t-1} | x_t) with the predicted x_0, guided where there is a `condFn`. */
  readonly p: ReverseExpr;
  /** A number of the process or of the sampler at this timestep. */
  readonly k: CoefficientExpr<Coefficient | Column>;
  /** Standard normal noise, for samplers that are `noisy`. */
  readonly noise: Expr;
  /** What earlier steps left; 0 before the first one. */
  readonly memory: Readonly<Record<Memory, Expr>>;
}

/** The result of a step. */
export interface StepResult<Memory extends string> {
  readonly sample: Expr;
  /** What later steps are to know. */
  readonly memory?: Readonly<Record<Memory, Expr>>;
}

/** A way from x_t to the next x. */
export interface Sampler<Column extends string = string, Memory extends string = string> {
  /** With all options that change the numbers or expressions below: two samplers of one name are the same. */
  readonly name: string;
  /** Whether a step adds noise. */
  readonly noisy: boolean;
  /** How a `condFn` enters: it moves the mean of p, or the predicted x_0. */
  readonly guidance: Guidance;
  /** Names of what is remembered from step to step, each of x's shape. */
  readonly memory: readonly Memory[];
  /**
   * Numbers of the schedule beside those of the process (`COEFFICIENTS`), a value for each timestep.
   *
   * @param first timestep of the loop's first step, before which nothing is remembered
   */
  coefficients?(settings: DiffusionSettings, first: number): Readonly<Record<Column, ArrayLike<number>>>;
  step(elements: StepElements<Column, Memory>): StepResult<Memory>;
}

/** What one step gives. */
export interface SampleStep {
  /** x_{t-1}; x_{t+1} in the reverse direction. */
  readonly sample: Tensor;
  /** The predicted x_0. */
  readonly predXstart: Tensor;
}

/** Options of one step of a sampler. */
export interface SamplerStepOptions extends DenoiseOptions, GuidanceOptions, NoiseOptions {
  /** What earlier steps left, in the order of `memory` of the sampler; needed by those that remember. */
  readonly memory?: readonly Tensor[];
  /** Timestep of the loop's first step; default the last of the process. */
  readonly first?: number;
}

/**
 * One step of a sampler from x_t (batch, channels, …) at t (batch).
 *
 * @returns the step, and what the next one is to be given as `memory`
 * @throws ShapeError, DTypeError where x, t or the model's output don't fit; ValueError without noise that the sampler
 *   needs
 */
export function samplerStep(
  process: DiffusionProcess,
  sampler: Sampler,
  model: DiffusionModel,
  x: Tensor,
  t: Tensor,
  options: SamplerStepOptions = {},
): SampleStep & { readonly memory: readonly Tensor[] } {
  const { name, memory: remembered } = sampler;
  const { memory = [], first = process.numTimesteps - 1 } = options;
  const noise = sampler.noisy ? drawNoise(name, x.shape, options) : undefined;
  const given: Record<string, Tensor> = Object.fromEntries(remembered.map((key, i) => [`memory.${key}`, memory[i]]));
  if (noise) given.noise = noise;
  const table = sampler.coefficients
    ? process.tableWith(remembered.length > 0 ? `${name}|${first}` : name, () =>
        sampler.coefficients!(process.settings, first),
      )
    : undefined;
  const [sample, predXstart, ...left] = reverseStep(
    process,
    name,
    model,
    x,
    t,
    { ...options, guidance: sampler.guidance, given, table },
    ({ p, x, k, of }) => {
      const result = sampler.step({
        x,
        p,
        k,
        noise: of.noise,
        memory: Object.fromEntries(remembered.map((key) => [key, of[`memory.${key}`]])),
      });
      return [result.sample, p.predXstart, ...remembered.map((key) => result.memory![key])];
    },
  );
  return { sample, predXstart, memory: left };
}

/** √ᾱ' x_0 + d ε as `ofXstart` x_0 + `ofX` x_t, by ε = (x_t - √ᾱ_t x_0) / √(1-ᾱ_t). */
export function moveColumns(
  { tables: k }: DiffusionSettings,
  alphasCumprod: Float64Array,
  towards: Float64Array,
): { ofXstart: Float64Array; ofX: Float64Array } & Columns {
  const ofX = towards.map((d, t) => d / k.sqrtOneMinusAlphasCumprod[t]);
  return { ofX, ofXstart: alphasCumprod.map((alpha, t) => Math.sqrt(alpha) - ofX[t] * k.sqrtAlphasCumprod[t]) };
}
