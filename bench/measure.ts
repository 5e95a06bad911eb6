// Measures one case: by the clock in batches of replays, by the GPU's timestamps, and what it costs the host.

import { capture, Profiler, scope, type CapturePlan, type Device } from '../core/index.ts';
import type { BenchCase, Prepared } from './case.ts';
import { sample, spreadOf, type Spread } from './sample.ts';

export interface Measurement {
  /** Seconds an iteration by the clock, waits shared out over a batch. */
  readonly wall: Spread;
  /** Seconds an iteration by timestamps, the sum over its dispatches; null where the adapter has none. */
  readonly gpu: Spread | null;
  readonly dispatches: number;
  /** Least seconds of host time a dispatch: replayed, submission included, and encoded operation by operation. */
  readonly host: { readonly replayed: number; readonly eager: number | null };
  readonly plan: CapturePlan | null;
}

export interface MeasureOptions {
  /** Seconds that a batch lasts at least. */
  readonly batch: number;
  /** Seconds to go on for. */
  readonly seconds: number;
  /** Find the fastest configuration of the case's kernels first, where that was not measured before. */
  readonly tune?: boolean;
}

/** Seconds an iteration above which every one of them counts against the time there is. */
export const SLOW = 1;

/** Iterations between two waits, at most. */
const MOST = 1024;

const now = (): number => performance.now() / 1000;

/** @throws whatever the case throws, and what its kernels do to the device */
export async function measure(device: Device, { name, prepare }: Pick<BenchCase, 'name' | 'prepare'>, options: MeasureOptions): Promise<Measurement> {
  const prepared = await prepare(device);
  try {
    return await measurePrepared(device, name, prepared, options);
  } finally {
    prepared.dispose();
    device.trim();
  }
}

/** Encodes one iteration and gives its results back. */
function encode(prepared: Prepared): void {
  scope(() => { prepared.step(); });
}

async function measurePrepared(device: Device, name: string, prepared: Prepared, { batch, seconds, tune = false }: MeasureOptions): Promise<Measurement> {
  const asIs = prepared.capture === 'none';
  const step = asIs ? (): void => { prepared.step(); } : (): void => encode(prepared);
  // The first iteration compiles; those after it show what the host does.
  step();
  await device.synchronize();
  if (tune && device.tuning.pending > 0) {
    await device.tuning.tune();
    step();
    await device.synchronize();
  }
  const before = device.stream.dispatches;
  const eager: number[] = [];
  let slow = false;
  while (eager.length < 3 && !slow) {
    const begun = now();
    step();
    eager.push(now() - begun);
    await device.synchronize();
    slow = now() - begun > SLOW;
  }
  const dispatches = (device.stream.dispatches - before) / eager.length;

  const captured = asIs ? null : capture(device, step);
  const replay = captured ? (): void => { captured.replay(); } : step;
  try {
    const count = slow ? 1 : await batchSize(device, replay, batch);

    const host: number[] = [];
    const walls = await sample(name, async () => {
      const begun = now();
      for (let i = 0; i < count; i++) replay();
      device.stream.flush();
      host.push((now() - begun) / count);
      await device.synchronize();
    }, { seconds, samples: slow ? 2 : 5 });
    const each = spreadOf(walls).median / count;
    return {
      wall: spreadOf(walls.map((t) => t / count)),
      gpu: device.has('timestamp-query') && !slow ? await gpuTime(device, replay, Math.min(64, Math.max(3, Math.ceil(0.03 / each)))) : null,
      dispatches,
      host: { replayed: Math.min(...host) / Math.max(1, dispatches), eager: asIs ? null : Math.min(...eager) / Math.max(1, dispatches) },
      plan: captured?.plan ?? prepared.plan?.() ?? null,
    };
  } finally {
    captured?.dispose();
  }
}

/** Iterations that take `batch` seconds. */
async function batchSize(device: Device, run: () => void, batch: number): Promise<number> {
  const once = await timed(device, run, 1);
  // One iteration includes a wait, so that the second estimate needs more of them where one is short.
  const several = Math.min(16, Math.max(1, Math.floor(batch / once)));
  const each = Math.min(once, await timed(device, run, several) / several);
  return Math.min(MOST, Math.max(1, Math.ceil(batch / each)));
}

async function timed(device: Device, run: () => void, count: number): Promise<number> {
  const begun = now();
  for (let i = 0; i < count; i++) run();
  await device.synchronize();
  return now() - begun;
}

/** Timestamps of every dispatch, summed over each iteration. */
async function gpuTime(device: Device, run: () => void, count: number): Promise<Spread | null> {
  const profiler = new Profiler(device);
  device.profiler = profiler;
  try {
    for (let i = 0; i < count; i++) run();
    const events = await profiler.events();
    const each = events.length / count;
    const sums = Array.from({ length: count }, (_, i) => events.slice(Math.round(i * each), Math.round((i + 1) * each)).reduce((sum, e) => sum + e.gpu, 0) / 1000);
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
