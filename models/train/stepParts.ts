// What a step computes, as captured lists: losses and gradients of micro-batches, and the optimizer's update. Each list
// is recorded the first time and replayed from then on; everything that changes between steps is data in buffers.

import {
  backward,
  capture,
  captureAhead,
  cut,
  keep,
  noGrad,
  scope,
  stack,
  type CapturedStep,
  type CapturePlan,
  type Device,
  type Generator,
  type Tensor,
} from '../../core/index.ts';
import type { FusedAdamW, GradientRun } from '../../nn/index.ts';
import type { StepInputs } from './stepInputs.ts';
import type { Denoiser, GivenDraws, TrainingObjective } from './types.ts';

/**
 * Lists that a step is made of. Alone: `whole`, or `first`, `more` … `update` with micro-batches. With other ranks:
 * `first`, `more` …, then `last` (or `only`), in which gradients become complete and are sent, and `update`.
 */
export type Part = 'whole' | 'first' | 'more' | 'only' | 'last' | 'update';

const TERMS = ['loss', 'mse', 'vb'] as const;

/** What a step is computed with. */
export interface StepSetup {
  readonly device: Device;
  readonly model: Denoiser;
  readonly diffusion: TrainingObjective;
  readonly optimizer: FusedAdamW;
  /** Draws timesteps, noise and dropout. */
  readonly generator: Generator;
  readonly inputs: StepInputs;
  readonly microBatches: number;
  readonly ranks: number;
  /** Whether parts are captured, or computed anew at every step. */
  readonly capturing: boolean;
  /** With several ranks: runs of gradients that are sent together, and what sends one where nothing is captured. */
  readonly sending?: { readonly runs: readonly GradientRun[]; begin(run: number): void };
}

export class StepParts {
  readonly setup: StepSetup;
  /** Which losses the objective gives; empty before the first step. */
  terms: readonly (typeof TERMS)[number][] = [];
  private readonly captured = new Map<string, CapturedStep<Tensor | null>>();

  constructor(setup: StepSetup) {
    this.setup = setup;
  }

  /** The parts of a step in order: one a micro-batch, and the update where it stands by itself. */
  list(): Part[] {
    const { microBatches: count, sending } = this.setup;
    if (count === 1) return sending ? ['only', 'update'] : ['whole'];
    return [
      ...Array.from({ length: count }, (_, k): Part =>
        k === 0 ? 'first' : sending && k === count - 1 ? 'last' : 'more',
      ),
      'update',
    ];
  }

  /** How the captured parts use memory. */
  get plans(): ReadonlyMap<string, CapturePlan> {
    return new Map([...this.captured].map(([part, step]) => [part, step.plan]));
  }

  /** Runs a part of the step, captured or not, and begins to read its losses. */
  enqueue(part: Part, draws: GivenDraws): Promise<ArrayLike<number>> | undefined {
    const { device, capturing } = this.setup;
    if (!capturing) {
      const terms = this.work(part, draws);
      return terms?.data().finally(() => {
        terms.dispose();
      });
    }
    const key = partKey(part, draws);
    const known = this.captured.get(key);
    known?.replay();
    return (
      known ??
      this.hold(
        key,
        capture(device, () => this.work(part, draws)),
      )
    ).result?.data();
  }

  /** A part of the step, captured without running it. */
  async prepared(part: Part, draws: GivenDraws): Promise<CapturedStep<Tensor | null>> {
    const key = partKey(part, draws);
    return (
      this.captured.get(key) ?? this.hold(key, await captureAhead(this.setup.device, () => this.work(part, draws)))
    );
  }

  dispose(): void {
    for (const step of this.captured.values()) {
      step.result?.dispose();
      step.dispose();
    }
    this.captured.clear();
  }

  private hold(key: string, step: CapturedStep<Tensor | null>): CapturedStep<Tensor | null> {
    if (step.result) keep(step.result);
    this.captured.set(key, step);
    // What recording took is planned anew; its own memory is not needed any more.
    this.setup.device.trim();
    return step;
  }

  private work(part: Part, draws: GivenDraws): Tensor | null {
    return scope(() => {
      const terms = part === 'update' ? null : this.losses(part, draws);
      if (part === 'update' || part === 'whole') this.setup.optimizer.step();
      return terms;
    });
  }

  /** Losses of a micro-batch and their gradients; returns the terms per sample, (terms, count). */
  private losses(part: Part, draws: GivenDraws): Tensor {
    const { model, generator, diffusion, optimizer, inputs, microBatches, ranks, sending } = this.setup;
    const { images, labels } = inputs;
    const t = draws.timesteps ? inputs.timesteps : generator.randint([images.shape[0]], 0, diffusion.numTimesteps);
    const noise = draws.noise ? inputs.noise : generator.normal(images.shape);
    const terms = diffusion.trainingLosses((x, times) => model.forward(x, times, labels, { generator }), images, t, {
      noise,
    });
    backward(
      (draws.weights ? terms.loss.mul(inputs.weights) : terms.loss).mean(),
      optimizer.backwardOptions({
        add: part === 'more' || part === 'last',
        weight: 1 / microBatches / ranks,
        ...((part === 'only' || part === 'last') && { runs: sending?.runs, complete: (run) => this.complete(run) }),
      }),
    );
    this.terms = TERMS.filter((name) => terms[name]);
    return noGrad(() => stack(this.terms.map((name) => terms[name]!)));
  }

  /** All gradients of a run are in the arena. */
  private complete(run: number): void {
    const { device, capturing, sending } = this.setup;
    if (capturing) cut(device, run);
    else sending?.begin(run);
  }
}

/** Parts with drawn and with given numbers are different lists. */
function partKey(part: Part, draws: GivenDraws): string {
  return [part, ...Object.keys(draws)].join('+');
}
