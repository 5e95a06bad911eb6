// A kernel that comes in several configurations, and who chooses one. Kernels know this much alone; what measures and
// remembers is in tuning/ and is set as a device's chooser when the device is opened.

import type { Device } from './device.ts';

/** A kernel that comes in several configurations. Configurations are plain JSON. */
export interface Tunable<P, C> {
  /** Begins the keys of its problems. */
  readonly name: string;
  /** Names the class of problems that share a configuration: sizes in buckets, types, layout. */
  key(problem: P): string;
  /** The problem without the memory that it is about: what `prepare` needs. */
  outline(problem: P): P;
  /** What to take unmeasured. */
  heuristic(device: Device, problem: P): C;
  /** Everything that is worth measuring. */
  candidates(device: Device, problem: P): readonly C[];
  /** Whether a configuration from elsewhere is one that computes this problem on this device. */
  accepts(device: Device, problem: P, config: unknown): config is C;
  /** Memory for a problem of this outline, and a function that encodes it once. */
  prepare(device: Device, problem: P): { run(config: C): void; dispose(): void };
}

/** Knows which configuration is the fastest on a device. */
export interface Chooser {
  choose<P, C>(tunable: Tunable<P, C>, problem: P): C;
}

const choosers = new WeakMap<Device, Chooser>();

/** Sets who chooses on a device. */
export function setChooser(device: Device, chooser: Chooser): void {
  choosers.set(device, chooser);
}

/** The configuration to compute a problem with: what the device's chooser says, else the rule of thumb. */
export function choose<P, C>(device: Device, tunable: Tunable<P, C>, problem: P): C {
  return choosers.get(device)?.choose(tunable, problem) ?? tunable.heuristic(device, problem);
}
