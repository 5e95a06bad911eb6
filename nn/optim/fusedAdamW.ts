// AdamW with clipping, the parameters' moving average and dynamic loss scaling, for capture: parameters, gradients and
// moments lie in flat arenas, a step is four dispatches however many parameters there are, and what changes from step
// to step is in a buffer. Sources: Loshchilov & Hutter 2017 (arXiv 1711.05101); Micikevicius et al. 2017 (arXiv
// 1710.03740), §3 for f16.

import { FormatError, ValueError } from '../../core/errors.ts';
import { empty, keep, noGrad, scope, show, tensor, type AccumulateOptions, type Tensor } from '../../core/index.ts';
import {
  ADAMW_SETTINGS_WORDS,
  ADAMW_STATE_WORDS,
  adamWSettings,
  adamWState,
  adamWWord,
  advanceAdamW,
  fusedAdamW,
  globalNorm,
  globalNormConfig,
  globalNormPartials,
  type AdamWSettings,
  gatherGradients,
  GRADIENTS_PER_DISPATCH,
  type GradientPlace,
} from '../../kernels/fused-adamw/index.ts';
import type { HostTensor, Module } from '../module.ts';
import { parameter } from '../parameter.ts';
import { Arena, ArenaLayout, type StateTensors } from './arena.ts';

export type { StateTensors };

/** Options of `FusedAdamW`. */
export interface FusedAdamWOptions {
  /** Learning rate; default 1e-3. `lr` of the optimizer may be set before each step. */
  readonly lr?: number;
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled weight decay; default 0. */
  readonly weightDecay?: number;
  /** Which parameters decay; default all, as in PyTorch. */
  readonly decays?: (name: string, parameter: Tensor) => boolean;
  /** Global gradient norm to clip to; default 0, no clipping. */
  readonly maxNorm?: number;
  /** Keep a moving average of the parameters with this decay; `emaDecay` of the optimizer may be set before each step. */
  readonly emaDecay?: number;
  /**
   * Parameters that become f16 copies of f32 master values; the rest stays f32. The loss is scaled then, and the scale
   * adapts itself: a gradient that overflows halves it, 2,000 steps in a row that don't double it. Default none.
   */
  readonly half?: readonly Tensor[];
}

/** What the GPU counts. */
export interface AdamWCounters {
  /** Steps taken. */
  readonly step: number;
  /** Steps left out because a gradient was not finite. */
  readonly skipped: number;
  /** Global norm of the last gradients before clipping. */
  readonly gradNorm: number;
  readonly lossScale: number;
}

/** All that an optimizer needs to go on from bit for bit. */
export interface FusedAdamWState {
  /** Master values of the parameters. */
  readonly params: StateTensors;
  /** Moving averages of the parameters; empty without. */
  readonly ema: StateTensors;
  /** First and second moments: `m.NAME`, `v.NAME`. */
  readonly moments: StateTensors;
  /** The words of the state buffer. */
  readonly words: readonly number[];
}

/** A part of the gradients' arena, in elements: multiples of 128. */
export interface GradientRun {
  readonly offset: number;
  readonly numel: number;
}

/** Gradients that wait to share a dispatch: enough that two types and alignments fill theirs, too few to cost memory. */
const PENDING = 2 * GRADIENTS_PER_DISPATCH;
const FIRST_SCALE = 65536;
const GROWTH_INTERVAL = 2000;
const MOMENTS = ['m', 'v'] as const;

/**
 * Optimizer of a module's parameters. It moves them into its arena: make it after the module is in its final form, and
 * before a step is captured. Per step: `backward(loss, optimizer.backwardOptions(…))`, then `step()`.
 */
export class FusedAdamW {
  /** Master values. */
  readonly params: Arena;
  /** First moments. */
  readonly m: Arena;
  /** Second moments. */
  readonly v: Arena;
  /** Moving averages; null without. */
  readonly ema: Arena | null;
  private readonly grads: Arena;
  private readonly half: Arena | null;
  private readonly state: Tensor;
  private readonly scale: Tensor;
  private readonly partial: Tensor;
  private readonly norm: Tensor;
  private readonly settings: Omit<AdamWSettings, 'lr' | 'emaDecay'>;
  private readonly decayed: number;
  /** Where the gradient of each leaf begins in the arena. */
  private readonly places = new Map<Tensor, number>();
  private readonly live = new Map<string, Tensor>();
  private rate: number;
  private decay: number | undefined;
  /** Whether the state holds these settings with this rate; one that was loaded brings its own. */
  private settled = true;

  /** @throws ValueError when the module has no parameters, or f16 is asked of an adapter without it */
  constructor(module: Module, options: FusedAdamWOptions = {}) {
    const { lr = 1e-3, betas, eps, weightDecay = 0, decays = () => true, maxNorm = 0, emaDecay, half = [] } = options;
    const all = [...module.namedParameters()].filter(([, p]) => p.requiresGrad);
    if (!all.length) throw new ValueError('FusedAdamW', 'The module has no parameters that require a gradient');
    for (const [name, p] of all)
      if (p.dtype !== 'f32')
        throw new ValueError('FusedAdamW', `${name} is ${p.dtype}`, {
          expected: 'f32: the optimizer keeps f32 masters',
          remedy: 'list it under half instead of casting it',
        });
    const { device } = all[0][1];
    if (half.length && !device.has('shader-f16'))
      throw new ValueError('FusedAdamW', 'This adapter has no shader-f16', { remedy: 'train in f32' });
    // Backward completes gradients in about the reverse order of the parameters. Those that decay come first, so that
    // one number tells them apart.
    const reversed = all.toReversed();
    const decaying = reversed.filter(([name, p]) => weightDecay === 0 || decays(name, p));
    const kept = new Set(decaying.map(([name]) => name));
    const layout = new ArenaLayout([...decaying, ...reversed.filter(([name]) => !kept.has(name))]);
    this.decayed = layout.end([...kept]);
    const arena = (): Arena => new Arena(device, layout);
    [this.params, this.m, this.v, this.grads] = [arena(), arena(), arena(), arena()];
    this.ema = emaDecay === undefined ? null : arena();
    this.half = half.length ? new Arena(device, layout, 'f16') : null;
    noGrad(() =>
      scope(() => {
        for (const [name, p] of all) {
          const master = this.params.view(name);
          master.copy_(p);
          p.setData(master);
        }
        this.ema?.flat.copy_(this.params.flat);
        this.half?.flat.copy_(this.params.flat);
        const replaced = new Map<Tensor, Tensor>();
        for (const [name, p] of all) {
          if (this.half && half.includes(p)) {
            replaced.set(p, parameter(this.half.view(name)));
          }
          this.live.set(name, replaced.get(p) ?? p);
        }
        module.replaceTensors(replaced);
        for (const old of replaced.keys()) old.dispose();
        for (const [name, leaf] of this.live) this.places.set(leaf, layout.places.get(name)!.offset);
      }),
    );
    this.settings = { betas, eps, weightDecay, maxNorm, growthInterval: this.half ? GROWTH_INTERVAL : 0 };
    this.rate = lr;
    this.decay = emaDecay;
    this.state = keep(
      tensor(device, adamWState({ ...this.settings, lr, emaDecay }, { lossScale: this.half ? FIRST_SCALE : 1 })),
    );
    this.scale = keep(scope(() => this.state.select(0, adamWWord('lossScale'))));
    this.partial = keep(empty(device, [globalNormPartials(globalNormConfig(device), 1)]));
    this.norm = keep(empty(device, [2]));
  }

  /** Learning rate of the next step. */
  get lr(): number {
    return this.rate;
  }

  set lr(value: number) {
    if (!(value >= 0 && Number.isFinite(value)))
      throw new ValueError('FusedAdamW', `The learning rate is ${value}`, { expected: 'a finite number from 0 on' });
    this.settle(value, this.decay);
  }

  /** Decay of the moving average in the next step; undefined where none is kept. */
  get emaDecay(): number | undefined {
    return this.decay;
  }

  set emaDecay(value: number | undefined) {
    if (value !== undefined && !(value >= 0 && value <= 1))
      throw new ValueError('FusedAdamW', `is ${value}`, { option: 'emaDecay', expected: '0 to 1' });
    this.settle(this.rate, value);
  }

  private settle(lr: number, emaDecay: number | undefined): void {
    if (lr === this.rate && emaDecay === this.decay && this.settled) return;
    this.rate = lr;
    this.decay = emaDecay;
    this.settled = true;
    const words = this.state.slice(0, 0, ADAMW_SETTINGS_WORDS);
    words.write(adamWSettings({ ...this.settings, lr, emaDecay }));
    words.dispose();
  }

  /** Gradients of all parameters in about the order in which backward completes them, zero in gaps. */
  get gradients(): Tensor {
    return this.grads.flat;
  }

  /**
   * Cuts the gradients into runs of whole tensors, in order.
   *
   * @param elements about how many a run has, by its place counted from the last, which is 0
   */
  gradientRuns(elements: (fromLast: number) => number): GradientRun[] {
    const { places, numel } = this.grads.layout;
    const runs: GradientRun[] = [];
    let end = numel;
    for (const { offset } of [...places.values()].reverse()) {
      if (offset > 0 && end - offset < elements(runs.length)) continue;
      runs.push({ offset, numel: end - offset });
      end = offset;
    }
    return runs.reverse();
  }

  /**
   * What to give `backward` for a loss of one element: its gradient (the loss scale times `weight`), and where
   * gradients go: to the arena, many in a dispatch.
   *
   * @param options.add add to the gradients instead of overwriting them: for all but the first of several batches per
   *   step
   * @param options.weight share of this batch in the step's loss; default 1
   * @param options.runs of `gradientRuns`; `complete` is told of each as soon as all of its gradients are in the arena
   */
  backwardOptions({
    add = false,
    weight = 1,
    runs = [],
    complete = () => {},
  }: {
    add?: boolean;
    weight?: number;
    runs?: readonly GradientRun[];
    complete?: (run: number) => void;
  } = {}): Required<Pick<AccumulateOptions, 'accumulate' | 'finish'>> & { gradient: Tensor } {
    // Gradients on their way to the arena.
    const arrived: GradientPlace[] = [];
    const runOf = (offset: number): number => runs.findIndex((run) => offset < run.offset + run.numel);
    const missing = runs.map(() => 0);
    if (runs.length) for (const offset of this.places.values()) missing[runOf(offset)]++;
    const gather = (): void => {
      const places = arrived.splice(0);
      gatherGradients(this.state.device, this.grads.flat, places, { add });
      for (const { gradient } of places) gradient.dispose();
    };
    return {
      gradient: weight === 1 ? this.scale.alias() : this.scale.mul(weight),
      accumulate: (leaf, gradient) => {
        const offset = this.places.get(leaf);
        if (offset === undefined)
          throw new ValueError(
            'FusedAdamW',
            `A gradient of shape ${show(leaf.shape)} arrived for a tensor that isn't the optimizer's`,
            { remedy: 'freeze it or make the optimizer after it' },
          );
        arrived.push({ gradient: gradient.isContiguous ? gradient.alias() : gradient.clone(), offset });
        const run = runOf(offset);
        const whole = run >= 0 && --missing[run] === 0;
        if (whole || arrived.length === PENDING) gather();
        if (whole) complete(run);
      },
      finish: () => {
        gather();
        missing.forEach((count, run) => {
          if (count > 0) complete(run);
        });
      },
    };
  }

  /** Sets all gradients to zero; needed only where parameters may get none. */
  zeroGrad(): void {
    scope(() => this.grads.flat.copy_(this.grads.flat.zerosLike()));
  }

  /** Updates all parameters from the gradients. A gradient that isn't finite leaves everything as it is. */
  step(): void {
    const { device } = this.state;
    globalNorm(device, [this.grads.flat], { partial: this.partial, out: this.norm });
    advanceAdamW(device, this.state, this.norm);
    const { params, grads, m, v, ema, half, decayed, state } = this;
    fusedAdamW(device, {
      state,
      params: params.flat,
      grads: grads.flat,
      m: m.flat,
      v: v.flat,
      ema: ema?.flat,
      half: half?.flat,
      decayed,
    });
  }

  /** Reads the counters; in order with the GPU's work, so call it right after the step and await it later. */
  async counters(): Promise<AdamWCounters> {
    const words = await this.state.data();
    const of = (name: Parameters<typeof adamWWord>[0]): number => words[adamWWord(name)];
    return { step: of('step'), skipped: of('skipped'), gradNorm: of('gradNorm'), lossScale: of('lossScale') };
  }

  /** The words of the state buffer. */
  async words(): Promise<ArrayLike<number>> {
    return this.state.data();
  }

  /** Overwrites the words of the state buffer. @throws FormatError where there are more or fewer */
  loadWords(words: readonly number[]): void {
    checkWords(words);
    this.state.write(Float32Array.from(words));
    this.settled = false;
  }

  /** Brings the f16 copies up to date after somebody else has written to the masters. */
  refresh(): void {
    noGrad(() => this.half?.flat.copy_(this.params.flat));
  }

  /** Runs `fn` while the module's parameters are their moving averages. */
  async withEma<T>(fn: () => T | Promise<T>): Promise<T> {
    const { ema } = this;
    if (!ema) throw new ValueError('FusedAdamW', 'There is no moving average', { remedy: 'pass emaDecay' });
    const own = new Map([...this.live].map(([name, leaf]) => [name, keep(leaf.detach())]));
    noGrad(() =>
      scope(() => {
        for (const [name, leaf] of this.live) leaf.setData(ema.view(name).cast(leaf.dtype));
      }),
    );
    try {
      return await fn();
    } finally {
      for (const [name, leaf] of this.live) leaf.setData(own.get(name)!);
      for (const t of own.values()) t.dispose();
    }
  }

  /** Everything that the optimizer holds. */
  async saveState(): Promise<FusedAdamWState> {
    const [params, ema, words, ...moments] = await Promise.all([
      this.params.read(),
      this.ema?.read() ?? new Map<string, HostTensor>(),
      this.state.data(),
      ...MOMENTS.map(async (key) =>
        Array.from(await this[key].read(), ([name, values]) => [`${key}.${name}`, values] as const),
      ),
    ]);
    return { params, ema, moments: new Map(moments.flat()), words: Array.from(words) };
  }

  /**
   * Overwrites everything by what `saveState` gave.
   *
   * @throws FormatError, ShapeError when something is missing or of another shape; nothing is written then
   */
  loadState({ params, ema, moments, words }: FusedAdamWState): void {
    checkWords(words);
    const operation = 'FusedAdamW';
    const plan: (readonly [Arena, (name: string) => ArrayLike<number>])[] = [
      [this.params, this.params.valuesIn(params, { operation, prefix: '' })],
      ...MOMENTS.map((key) => {
        const prefix = `${key}.`;
        return [this[key], this[key].valuesIn(moments, { operation, prefix, told: `optimizer.${prefix}` })] as const;
      }),
    ];
    if (this.ema) plan.push([this.ema, this.ema.valuesIn(ema, { operation, prefix: '', told: 'ema.' })]);
    for (const [arena, values] of plan) arena.write(values);
    this.refresh();
    this.loadWords(words);
  }

  /** Frees everything but the parameters. */
  dispose(): void {
    for (const t of [this.state, this.scale, this.partial, this.norm]) t.dispose();
    for (const arena of [this.params, this.m, this.v, this.grads, this.ema, this.half]) arena?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function checkWords(words: readonly number[]): void {
  if (words.length !== ADAMW_STATE_WORDS)
    throw new FormatError('FusedAdamW', `The state has ${words.length} words`, {
      expected: `${ADAMW_STATE_WORDS}`,
      remedy: 'load it with the version that wrote it',
    });
}
