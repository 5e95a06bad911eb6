// How the scan is tuned: which problems share a layout, and how a layout is measured. The save interval belongs to the
// backward scan, which is measured together with the forward scan that saves the states. The forward layout is then
// measured for that interval.

import { scope, sizeOf, type Device, type FloatDType } from '../../core/index.ts';
import { choose, emptyTensor, Storage, type Operand, type Tunable } from '../../core/kit.ts';
import type { Rows } from '../rows.ts';
import { scanBackward, scanForward, type ScanProblem } from './launch.ts';
import {
  backwardPlans,
  forwardLayouts,
  quadsOf,
  type BackwardPlan,
  type ForwardLayout,
  type ScanPlan,
  type ScanSize,
} from './plan.ts';

/** What a plan is chosen by. */
export interface ScanClass extends ScanSize {
  readonly dtype: FloatDType;
}

interface ForwardClass extends ScanClass {
  readonly saveInterval: number;
  readonly save: boolean;
}

/**
 * The plan for a scan on this adapter: what was measured, or the rule of thumb. `save`: whether gradients are needed.
 */
export function chooseScanPlan(
  device: Device,
  { batch, length, channels, states, directions, dtype }: ScanClass,
  save: boolean,
): ScanPlan {
  const size = { batch, length, channels, states, directions, dtype };
  // Without gradients nothing is saved, and any interval will do.
  const { saveInterval, layout } = save ? choose(device, backwardTunable, size) : backwardPlans(device, size)[0];
  return {
    quads: quadsOf(states),
    saveInterval,
    forward: choose(device, forwardTunable, { ...size, saveInterval, save }),
    backward: layout,
  };
}

/** Sizes in classes, two an octave. */
const bucket = (n: number): string => `2^${Math.round(2 * Math.log2(n)) / 2}`;

/** Batch × tokens × channels × states, directions, type. */
const keyOf = ({ batch, length, channels, states, directions, dtype }: ScanClass): string =>
  `${bucket(batch)}×${bucket(length)}×${bucket(channels)}×${states} ${directions === 2 ? 'both ' : ''}${dtype}`;

export const backwardTunable: Tunable<ScanClass, BackwardPlan> = {
  name: 'scan backward',
  key: keyOf,
  outline: (size) => size,
  heuristic: (device, size) => backwardPlans(device, size)[0],
  candidates: backwardPlans,
  accepts: (device, size, config): config is BackwardPlan => among(config, backwardPlans(device, size)),
  prepare(device, size) {
    const { make, dispose } = memoryOf(device, size);
    return {
      run({ saveInterval, layout }) {
        const { batch, length, states, dtype } = size;
        const problem = make({
          quads: quadsOf(states),
          saveInterval,
          forward: forwardLayouts(device, size, saveInterval)[0],
          backward: layout,
        });
        scope(() => {
          const { packed, saved } = scanForward(device, problem, true);
          const tokens = problem.sets.map(() => ({
            storage: emptyTensor(device, [2, batch, length, states], dtype).storage,
            bOffset: 0,
            bRow: states,
            cOffset: batch * length * states,
            cRow: states,
          }));
          scanBackward(device, problem, packed, saved!, problem.z!, { tokens });
        });
      },
      dispose,
    };
  },
};

export const forwardTunable: Tunable<ForwardClass, ForwardLayout> = {
  name: 'scan forward',
  key: (size) => `${keyOf(size)}${size.save ? ` saving ${size.saveInterval}` : ''}`,
  outline: (size) => size,
  heuristic: (device, size) => forwardLayouts(device, size, size.saveInterval)[0],
  candidates: (device, size) => forwardLayouts(device, size, size.saveInterval),
  accepts: (device, size, config): config is ForwardLayout =>
    among(config, forwardLayouts(device, size, size.saveInterval)),
  prepare(device, size) {
    const { make, dispose } = memoryOf(device, size);
    const { layout: backward } = backwardPlans(device, size)[0];
    return {
      run(layout) {
        const plan = { quads: quadsOf(size.states), saveInterval: size.saveInterval, forward: layout, backward };
        scope(() => {
          scanForward(device, make(plan), size.save);
        });
      },
      dispose,
    };
  },
};

function among(config: unknown, list: readonly unknown[]): boolean {
  const text = JSON.stringify(config);
  return list.some((c) => JSON.stringify(c) === text);
}

/** Memory for a gated scan of this size, and the scan with a plan. */
function memoryOf(
  device: Device,
  { batch, length, channels, states, directions, dtype }: ScanClass,
): { make(plan: ScanPlan): ScanProblem; dispose(): void } {
  const all: Storage[] = [];
  const make = (elements: number, bytes: number): Storage => {
    const storage = new Storage(device, elements * bytes, 'tuning');
    // A buffer of the pool may hold anything, also denormal numbers, which a CPU is slow with.
    device.stream.clear(storage.buffer);
    all.push(storage);
    return storage;
  };
  const rows = (width: number): Rows => ({
    storage: make(batch * length * width, sizeOf(dtype)),
    offset: 0,
    row: width,
  });
  const vector = (elements: number): Operand => ({ storage: make(elements, 4), byteOffset: 0 });
  const sets = (['forward', 'reverse'] as const).slice(0, directions).map((direction) => ({
    direction,
    u: rows(channels),
    delta: rows(channels),
    B: rows(states),
    C: rows(states),
    A: vector(channels * states),
    D: vector(channels),
    bias: vector(channels),
  }));
  const z = rows(channels);
  return {
    make: (plan) => ({ batch, length, channels, states, dtype, softplus: true, sets, z, plan }),
    dispose: () => all.forEach((storage) => storage.release()),
  };
}
