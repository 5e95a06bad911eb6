// Captures a step and replays it. A training step does the same work every time; recording it once and replaying the
// list of (pipeline, bind group, workgroups) costs the host next to nothing.
//
// The step runs once as always, while every allocation, release and dispatch is noted. What was made and freed inside
// of the step is then laid out anew by liveness: two values that are never needed at the same time share a buffer. What
// existed before, what the step returns, and what it wrote from the host keep their own memory.

import type { Device } from '../gpu/device.ts';
import { EngineError } from '../errors.ts';
import { DispatchWork } from '../gpu/dispatcher.ts';
import type { Work } from '../gpu/faults.ts';
import type { Compiled } from '../gpu/kernelCache.ts';
import type { PooledBuffer } from '../gpu/pool.ts';
import type { Storage } from '../gpu/storage.ts';
import type { Bound, Positioned, Recorder } from '../gpu/recorder.ts';

interface Dispatch {
  readonly kernel: Compiled;
  readonly bound: readonly Bound[];
  readonly params: ArrayBuffer;
  readonly groups: readonly [number, number, number];
}

interface Life {
  readonly bytes: number;
  readonly first: number;
  last: number;
}

/** What a captured step holds in memory, in bytes. */
export interface CapturePlan {
  /** Buffers of intermediate values as planned. */
  readonly planned: number;
  /** Their sum if nothing were shared. */
  readonly naive: number;
  /** The most that is live at one time: no plan can take less. */
  readonly lowerBound: number;
  readonly dispatches: number;
}

class StepRecorder implements Recorder {
  readonly ahead: boolean;
  readonly commands: Dispatch[] = [];
  readonly lives = new Map<Storage, Life>();
  readonly pinned = new Set<Storage>();
  readonly sources = new Map<Positioned, number>();
  /** Before which command the step was cut, and the number given with it. */
  readonly cuts: { readonly at: number; readonly tag: number }[] = [];

  constructor(ahead: boolean) {
    this.ahead = ahead;
  }

  allocated(storage: Storage): void {
    this.lives.set(storage, { bytes: storage.bytes, first: this.commands.length, last: -1 });
  }

  freed(storage: Storage): void {
    const life = this.lives.get(storage);
    if (life) life.last = this.commands.length - 1;
  }

  dispatched(
    kernel: Compiled,
    bound: readonly Bound[],
    params: ArrayBuffer,
    groups: readonly [number, number, number],
  ): void {
    this.commands.push({ kernel, bound, params, groups });
    for (const { storage } of bound) if (!this.lives.has(storage)) this.pin(storage);
  }

  written(storage: Storage): void {
    // Host data is uploaded now and not at each replay: its memory must stay as it is.
    this.pin(storage);
  }

  cut(tag: number): void {
    this.cuts.push({ at: this.commands.length, tag });
  }

  drawn(source: Positioned): void {
    if (this.sources.has(source)) return;
    this.sources.set(source, source.position);
    source.rebase();
  }

  refuse(what: string, instead: string): never {
    throw new EngineError('capture', `A captured step ${what}`, { expected: 'dispatches alone', remedy: instead });
  }

  release(): void {
    for (const storage of this.pinned) storage.release();
  }

  private pin(storage: Storage): void {
    if (this.pinned.has(storage)) return;
    this.pinned.add(storage.retain());
  }
}

/** The dispatches of a step as one: where one of them fails, nothing that the step writes has values. */
class StepWork implements Work {
  readonly touched: readonly Storage[];
  readonly written: readonly Storage[];
  private readonly works: readonly DispatchWork[];

  constructor(works: readonly DispatchWork[]) {
    this.works = works;
    this.touched = [...new Set(works.flatMap((work) => work.touched))];
    this.written = [...new Set(works.flatMap((work) => work.written))];
  }

  get cause(): Error | null {
    return this.works.find((work) => work.cause)?.cause ?? null;
  }
}

/** A step that was recorded, with its result. */
export class CapturedStep<R> {
  /** What the step returned; each replay writes new values into the same tensors. */
  readonly result: R;
  /** What it holds in memory. */
  readonly plan: CapturePlan;
  private readonly device: Device;
  /** All dispatches as one work: to note each of them would cost as much as to encode it. */
  private readonly work: StepWork;
  private readonly list: {
    kernel: Compiled;
    group: GPUBindGroup;
    immediates: ArrayBuffer | null;
    groups: readonly [number, number, number];
  }[] = [];
  private readonly kept: Storage[];
  /** Those of the kept ones that the step writes. */
  private readonly written: Storage[];
  private readonly slots: PooledBuffer[];
  /** Random generators, and the blocks that a replay draws from each. */
  private readonly sources: Map<Positioned, number>;
  private readonly cuts: StepRecorder['cuts'];
  /** Failures of the device when they were last looked at. */
  private seen = 0;
  private disposed = false;

  /** @internal */
  constructor(device: Device, recorder: StepRecorder, result: R) {
    this.device = device;
    this.result = result;
    this.cuts = recorder.cuts;
    this.sources = new Map([...recorder.sources].map(([g, from]) => [g, g.position - from]));
    const transient = [...recorder.lives].filter(
      ([storage, life]) => life.last >= life.first && !recorder.pinned.has(storage) && !storage.alive,
    );
    const { slots, place } = plan(transient.map(([, life]) => life));
    // The pool has most of them from the run that was recorded.
    this.slots = slots.map((size) => device.pool.acquire(size, 'an intermediate value of a captured step'));
    const slotOf = new Map(transient.map(([storage], i) => [storage, this.slots[place[i]].gpu]));
    this.kept = [...recorder.pinned];
    for (const [storage] of recorder.lives)
      if (storage.alive && !recorder.pinned.has(storage)) this.kept.push(storage.retain());
    const kept = new Set(this.kept);
    this.written = [
      ...new Set(
        recorder.commands.flatMap(({ kernel, bound }) =>
          bound
            .filter((b, i) => kernel.source.bindings[i].access === 'write' && kept.has(b.storage))
            .map((b) => b.storage),
        ),
      ),
    ];
    const bufferOf = (storage: Storage): GPUBuffer => slotOf.get(storage) ?? storage.buffer.gpu;

    const groups = new Map<string, GPUBindGroup>();
    const ids = new Map<GPUBuffer, number>();
    const idOf = (buffer: GPUBuffer): number => ids.get(buffer) ?? (ids.set(buffer, ids.size), ids.size - 1);
    for (const command of recorder.commands) {
      const { kernel, params } = command;
      const bindings = command.bound.map((b) => ({ buffer: bufferOf(b.storage), offset: b.offset, size: b.bytes }));
      const uniform = kernel.paramBytes > 0 && !kernel.immediate ? device.bindGroups.uniform(params) : null;
      const key = `${kernel.id}|${bindings.map((b) => `${idOf(b.buffer)}+${b.offset}:${b.size}`).join()}|${uniform ? idOf(uniform) : ''}`;
      let group = groups.get(key);
      if (!group) groups.set(key, (group = device.bindGroups.make(kernel, bindings, uniform)));
      this.list.push({
        kernel,
        group,
        immediates: kernel.immediate && kernel.paramBytes ? params : null,
        groups: command.groups,
      });
    }
    this.work = new StepWork(recorder.commands.map(({ kernel, bound }) => new DispatchWork(kernel, bound)));
    this.plan = {
      planned: slots.reduce((s, v) => s + v, 0),
      naive: transient.reduce((s, [, life]) => s + life.bytes, 0),
      lowerBound: peak(transient.map(([, life]) => life)),
      dispatches: this.list.length,
    };
  }

  /** Runs the step again, with what its inputs hold now. */
  replay(): R {
    for (const _ of this.replayInParts());
    return this.result;
  }

  /**
   * Runs the step again and stops at each cut: gives its number when everything before it is encoded. Commands that are
   * encoded there come before the rest of the step; they may be submitted and waited for. Go on to the end before
   * anything else is replayed.
   */
  *replayInParts(): Generator<number, void, undefined> {
    if (this.disposed) throw new EngineError('capture', 'The captured step was disposed of');
    this.device.check();
    const { stream } = this.device;
    stream.recorder?.refuse('replays another', 'capture both in one step, or replay them one after the other');
    this.forgetFailures();
    for (const g of this.sources.keys()) g.rebase();
    for (const storage of this.written) storage.version++;
    let from = 0;
    for (const { at, tag } of this.cuts) {
      this.encode(from, at);
      yield tag;
      from = at;
    }
    this.encode(from, this.list.length);
    for (const [g, blocks] of this.sources) g.advance(blocks);
    stream.flush();
  }

  private encode(from: number, to: number): void {
    const { stream } = this.device;
    const used = (): void => {
      for (const storage of this.kept) if (storage.alive) storage.buffer.serial = stream.serial;
    };
    used();
    for (let i = from; i < to; i++) {
      const { kernel, group, immediates, groups } = this.list[i];
      stream.dispatch(this.work, kernel, group, immediates, groups[0], groups[1], groups[2]);
    }
    // Written to by commands that may still be open: a host write has to come after them.
    used();
  }

  /** Where a replay failed, the next one writes anew what that one did not. */
  private forgetFailures(): void {
    const { faults } = this.device;
    if (faults.count === this.seen) return;
    this.seen = faults.count;
    const written = new Set(this.written);
    for (const storage of this.kept) if (storage.memoryFailure || !written.has(storage)) faults.check(storage);
    for (const storage of this.work.written) storage.failure = null;
  }

  /** Frees its buffers. The tensors of `result` are the caller's. */
  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.device.stream.flush();
    for (const storage of this.kept) storage.release();
    for (const buffer of this.slots) this.device.pool.release(buffer);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Runs a step once and records it. Replays repeat the same dispatches on the same memory: numbers that change from step
 * to step must be in tensors (`write()` them before a replay); a JavaScript number is fixed at the capture. Tensors
 * that the step returns, and parameters, are read and written in place.
 *
 * @throws EngineError when the step reads values back, replays or captures another, or is asynchronous
 */
export function capture<R>(device: Device, step: () => R): CapturedStep<R> {
  return record(device, step, new StepRecorder(false));
}

/**
 * Records a step without running it: the first `replay()` does. Its kernels are compiled beside each other meanwhile,
 * and memory is taken as planned from the beginning. Rules are those of `capture`.
 *
 * @throws CompileError for a kernel that the adapter refuses, and what `capture` throws
 */
export async function captureAhead<R>(device: Device, step: () => R): Promise<CapturedStep<R>> {
  const recorder = new StepRecorder(true);
  const captured = record(device, step, recorder);
  for (const [source, position] of recorder.sources) source.rewind({ position });
  try {
    await device.kernels.settled();
    device.check();
    for (const { kernel } of recorder.commands) if (kernel.verdict.failure) throw kernel.verdict.failure;
  } catch (error) {
    captured.dispose();
    throw error;
  }
  return captured;
}

/** Cuts the step that is being recorded, if one is: `replayInParts` stops there and gives `tag`. */
export function cut(device: Device, tag: number): void {
  device.stream.recorder?.cut(tag);
}

function record<R>(device: Device, step: () => R, recorder: StepRecorder): CapturedStep<R> {
  device.stream.recorder?.refuse('captures another', 'capture both in one step');
  device.stream.recorder = recorder;
  try {
    const result = step();
    if (result instanceof Promise) {
      // It goes on, and fails where it reads values back: nobody waits for it.
      result.catch(() => undefined);
      recorder.refuse('is asynchronous', 'return tensors and await them after the step');
    }
    device.stream.recorder = null;
    return new CapturedStep(device, recorder, result);
  } catch (error) {
    recorder.release();
    throw error;
  } finally {
    device.stream.recorder = null;
  }
}

/** Slots for values, the largest first, each into the smallest slot that is free all its life. */
function plan(lives: readonly Life[]): { slots: number[]; place: number[] } {
  const order = lives
    .map((_, i) => i)
    .sort((a, b) => lives[b].bytes - lives[a].bytes || lives[a].first - lives[b].first);
  const slots: { bytes: number; taken: Life[] }[] = [];
  const place = new Array<number>(lives.length);
  for (const i of order) {
    const life = lives[i];
    let best = -1;
    slots.forEach((slot, k) => {
      if (
        slot.taken.every((t) => t.last < life.first || life.last < t.first) &&
        (best < 0 || slot.bytes < slots[best].bytes)
      )
        best = k;
    });
    if (best < 0) best = slots.push({ bytes: Math.max(256, Math.ceil(life.bytes / 16) * 16), taken: [] }) - 1;
    slots[best].taken.push(life);
    place[i] = best;
  }
  return { slots: slots.map((slot) => slot.bytes), place };
}

function peak(lives: readonly Life[]): number {
  const change = new Map<number, number>();
  for (const { first, last, bytes } of lives) {
    change.set(first, (change.get(first) ?? 0) + bytes);
    change.set(last + 1, (change.get(last + 1) ?? 0) - bytes);
  }
  let live = 0,
    most = 0;
  for (const at of [...change.keys()].sort((a, b) => a - b)) {
    live += change.get(at)!;
    most = Math.max(most, live);
  }
  return most;
}
