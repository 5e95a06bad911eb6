// Measures one case: by the clock in batches of replays, by the GPU's timestamps, and what it costs the host.

import { capture, Profiler, scope, type CapturedStep, type CapturePlan, type Device } from '../core/index.ts';
import { speedNow, warmUp } from '../core/tuning/warmUp.ts';
import type { BenchCase, Prepared } from './case.ts';
import { sample, spreadOf, type Spread } from './sample.ts';

export interface Measurement {
  /** Seconds an iteration by the clock, waits shared out over a batch. */
  readonly wall: Spread;
  /** Seconds an iteration by timestamps, the sum over its dispatches; null where the adapter has none. */
  readonly gpu: Spread | null;
  readonly dispatches: number;
  /** How often a replayed list does the work, one after the other: short lists are bound by what a submission costs. */
  readonly repeats: number;
  /** Least seconds of host time a dispatch: replayed, submission included, and encoded operation by operation. */
  readonly host: { readonly replayed: number; readonly eager: number | null };
  readonly plan: CapturePlan | null;
  /** The GPU's speed at arithmetic before and after, as a share of the best that was seen; null for what computes on the CPU. */
  readonly pace: { readonly before: number; readonly after: number } | null;
}

export interface MeasureOptions {
  /** Seconds that a batch lasts at least. */
  readonly batch: number;
  /** Seconds to go on for. */
  readonly seconds: number;
  /** Finds the fastest configurations of kernels that came up; tells whether it measured any. */
  readonly tune?: (device: Device) => Promise<boolean>;
}

/** Seconds an iteration above which every one of them counts against the time there is. */
export const SLOW = 1;

/** Replays between two waits, at most. */
const MOST = 1024;

/** Dispatches that a list should have, as a step has: then the cost of a submission no longer counts. */
const LIST = 64;

const now = (): number => performance.now() / 1000;

/** @throws whatever the case throws, and what its kernels do to the device */
export async function measure(
  device: Device,
  { name, prepare }: Pick<BenchCase, 'name' | 'prepare'>,
  options: MeasureOptions,
): Promise<Measurement> {
  let prepared = await prepare(device);
  // The first iteration compiles.
  const first = async (): Promise<void> => {
    stepOf(prepared)();
    await device.synchronize();
  };
  try {
    await first();
    if (options.tune && (await options.tune(device))) {
      if (prepared.capture === 'none') {
        // What captures itself did so with the kernels of before.
        prepared.dispose();
        prepared = await prepare(device);
      }
      await first();
    }
    return await measurePrepared(device, name, prepared, options);
  } finally {
    prepared.dispose();
    device.trim();
  }
}

/** A function that encodes one iteration and gives its results back. */
function stepOf(prepared: Prepared): () => void {
  return prepared.capture === 'none'
    ? () => {
        prepared.step();
      }
    : () =>
        scope(() => {
          prepared.step();
        });
}

async function measurePrepared(
  device: Device,
  name: string,
  prepared: Prepared,
  { batch, seconds }: MeasureOptions,
): Promise<Measurement> {
  const asIs = prepared.capture === 'none',
    step = stepOf(prepared);
  const { dispatches, eager, slow } = await runEagerly(device, step);

  let captured = asIs ? null : capture(device, step);
  const plan = captured?.plan ?? null;
  try {
    const replay = captured
      ? (): void => {
          captured!.replay();
        }
      : step;
    const before = await warmUp(device);
    if (slow) {
      // The buffers of a list are new: the system gives out their pages when they are first written.
      replay();
      await device.synchronize();
    }
    let each = slow ? Infinity : await iterationTime(device, replay, batch);
    const repeats = captured ? repeatsFor(dispatches, each, batch) : 1;
    if (repeats > 1) {
      captured!.dispose();
      captured = null;
      captured = captureRepeated(device, step, repeats);
      replay();
      each = (await iterationTime(device, replay, batch)) / repeats;
    }
    const count = Math.min(MOST, Math.max(1, Math.ceil(batch / (each * repeats))));

    const host: number[] = [];
    const walls = await sample(
      name,
      async () => {
        const begun = now();
        for (let i = 0; i < count; i++) replay();
        device.stream.flush();
        host.push((now() - begun) / count);
        await device.synchronize();
      },
      { seconds, samples: slow ? 2 : each > SLOW / 5 ? 3 : 5 },
    );
    const wall = spreadOf(walls.map((t) => t / (count * repeats)));
    const gpu =
      device.has('timestamp-query') && !slow
        ? await gpuTime(device, replay, Math.min(64, Math.max(3, Math.ceil(0.03 / (wall.median * repeats)))), repeats)
        : null;
    const after = await speedNow(device);
    return {
      wall,
      gpu,
      dispatches,
      repeats,
      host: {
        replayed: Math.min(...host) / Math.max(1, dispatches * repeats),
        eager: asIs ? null : eager / Math.max(1, dispatches),
      },
      plan: plan ?? prepared.plan?.() ?? null,
      pace: before === null || after === null ? null : { before, after },
    };
  } finally {
    captured?.dispose();
  }
}

/** Dispatches of an iteration, the least host time of one, and whether it is slow. */
async function runEagerly(
  device: Device,
  step: () => void,
): Promise<{ dispatches: number; eager: number; slow: boolean }> {
  const before = device.stream.dispatches;
  const times: number[] = [];
  let slow = false;
  for (const from = now(); times.length === 0 || (times.length < 3 && now() - from < SLOW);) {
    const begun = now();
    step();
    times.push(now() - begun);
    await device.synchronize();
    slow = now() - begun > SLOW;
  }
  return { dispatches: (device.stream.dispatches - before) / times.length, eager: Math.min(...times), slow };
}

/** How often a list should do its work so that it is as long as a step's, without lasting longer than a batch. */
export function repeatsFor(dispatches: number, each: number, batch: number): number {
  return Math.max(1, Math.min(Math.ceil(LIST / Math.max(1, dispatches)), Math.floor(batch / each)));
}

/** Captures a step several times over. Each writes the memory that the one before it wrote, so that they run in order. */
export function captureRepeated(device: Device, step: () => void, repeats: number): CapturedStep<void> {
  return capture(device, () => {
    for (let i = 0; i < repeats; i++) step();
  });
}

/** Seconds a call, waits shared out. */
async function iterationTime(device: Device, run: () => void, batch: number): Promise<number> {
  const once = await timed(device, run, 1);
  // One call includes a wait, so that the second estimate needs more of them where one is short.
  const several = Math.min(16, Math.floor(batch / once));
  return several < 2 ? once : Math.min(once, (await timed(device, run, several)) / several);
}

async function timed(device: Device, run: () => void, count: number): Promise<number> {
  const begun = now();
  for (let i = 0; i < count; i++) run();
  await device.synchronize();
  return now() - begun;
}

/** Timestamps of every dispatch, summed over each iteration; a run is `repeats` of them. */
async function gpuTime(device: Device, run: () => void, runs: number, repeats: number): Promise<Spread | null> {
  const profiler = new Profiler(device);
  device.profiler = profiler;
  try {
    for (let i = 0; i < runs; i++) run();
    const events = await profiler.events();
    const count = runs * repeats,
      each = events.length / count;
    const sums = Array.from(
      { length: count },
      (_, i) =>
        events.slice(Math.round(i * each), Math.round((i + 1) * each)).reduce((sum, e) => sum + e.gpu, 0) / 1000,
    );
    // Where timestamps are rounded off to more than the work takes they say nothing.
    return spreadOf(sums).median > 0 && events.some((e) => !isMultiple(e.gpu * 1e6, COARSE)) ? spreadOf(sums) : null;
  } finally {
    device.profiler = null;
  }
}

/** Nanoseconds to which Dawn rounds timestamps in browsers. */
const COARSE = 2 ** 16;

function isMultiple(value: number, of: number): boolean {
  return Math.abs(value / of - Math.round(value / of)) < 1e-3;
}
