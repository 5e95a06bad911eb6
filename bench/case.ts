// What the benchmark can measure: a named piece of work at one size.

import type { CapturePlan, Device } from '../core/index.ts';
import type { Work } from './work.ts';

export type Group =
  | 'matmul'
  | 'attention'
  | 'scan'
  | 'conv'
  | 'norm'
  | 'elementwise'
  | 'reduce'
  | 'movement'
  | 'random'
  | 'optimizer'
  | 'step';

/** In the order of the table. */
export const GROUPS: readonly Group[] = [
  'matmul',
  'attention',
  'scan',
  'conv',
  'norm',
  'elementwise',
  'reduce',
  'movement',
  'random',
  'optimizer',
  'step',
];

export interface BenchCase {
  readonly group: Group;
  /** What is done, for example `selectiveScan backward`. */
  readonly name: string;
  /** At which size, for example `S 8×258`. */
  readonly size: string;
  readonly work: Work;
  /** 0 is measured in every run; higher numbers give way first where time is short. */
  readonly priority: number;
  /** Bytes of the largest single tensor, and of all of them together. */
  readonly largest: number;
  readonly live: number;
  readonly needs?: 'shader-f16';
  /** Images that one iteration handles, for throughput. */
  readonly images?: number;
  /** Dispatches of an iteration, roughly, to estimate what it costs. Default 1. */
  readonly dispatches?: number;
  prepare(device: Device): Prepared | Promise<Prepared>;
}

/** Work that is ready to run. */
export interface Prepared {
  /** Encodes one iteration, made of dispatches only unless `capture` says otherwise. */
  step(): unknown;
  /** `none` runs a step as it is each time: it captures itself, or is to be measured without. Default `replay`. */
  readonly capture?: 'replay' | 'none';
  /** Memory of a step that captures itself. */
  readonly plan?: () => CapturePlan | null;
  dispose(): void;
}

export const idOf = (c: { readonly name: string; readonly size: string }): string => `${c.name} ${c.size}`;
