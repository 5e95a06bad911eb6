// Who may listen to a device at work. The stream knows these interfaces alone; capture.ts records through one of them
// and profiler.ts measures through the other.

import type { Compiled } from './kernelCache.ts';
import type { MemoryListener, Storage } from './storage.ts';
import type { GPUCommandEncoder, GPUComputePassEncoder } from './webgpu.ts';

/** A storage bound to a kernel, from a byte offset. */
export interface Bound {
  readonly storage: Storage;
  readonly offset: number;
  readonly bytes: number;
}

/** Something whose values depend on a position that moves on at each replay: a random generator. */
export interface Positioned {
  /** Counted in blocks drawn so far. */
  readonly position: number;
  /** @internal Brings its buffer up to the position. */
  rebase(): void;
  /** @internal Moves on by what a replay has drawn. */
  advance(blocks: number): void;
  /** @internal Goes back to an earlier position. */
  rewind(to: { readonly position: number }): void;
}

/** Listens to what a step does, in order. */
export interface Recorder extends MemoryListener {
  /** Whether dispatches are noted and not run. */
  readonly ahead: boolean;
  dispatched(
    kernel: Compiled,
    bound: readonly Bound[],
    params: ArrayBuffer,
    groups: readonly [number, number, number],
  ): void;
  written(storage: Storage): void;
  drawn(source: Positioned): void;
  /** Marks a place at which replays stop. */
  cut(tag: number): void;
  /** Throws: the step does what can't be replayed. */
  refuse(what: string, instead: string): never;
}

/** Measures dispatches: each gets a pass of its own while one is set. */
export interface DispatchTimer {
  /** @internal The host begins to prepare a dispatch. */
  hostBegins(): void;
  /** @internal */
  beginPass(encoder: GPUCommandEncoder, name: string): GPUComputePassEncoder;
  /** @internal The dispatch begun last is encoded. */
  hostEnds(): void;
  /** @internal Called before the stream submits. */
  resolve(encoder: GPUCommandEncoder): void;
}
