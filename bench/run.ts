// Runs a plan on an adapter and collects the rows. A case that fails is a line of the report, not the end of it.

import { cpus } from 'node:os';
import { loadTuning } from '../cli/tuningCache.ts';
import { openDevice, type Device, type DeviceOptions, type TuningData, tuningOf } from '../core/index.ts';
import { GROUPS, idOf, type BenchCase } from './case.ts';
import { arithmeticRate, measureCeilings } from './ceilings.ts';
import { measure, type MeasureOptions } from './measure.ts';
import { costOf, planCases, type PlanLimits } from './plan.ts';
import { timeOf, SCHEMA, type BenchResult, type BenchRow } from './result.ts';
import { ceilingsTable, progressLine } from './table.ts';
import { tuner } from './tuner.ts';
import { limitOf, type Ceilings } from './work.ts';

export interface RunOptions {
  readonly device: DeviceOptions;
  /** Only cases whose name and size contain this. */
  readonly filter?: string;
  readonly quick: boolean;
  /** Seconds for all; the default fits the adapter. */
  readonly budget?: number;
  /** Bytes that a case may take; WebGPU doesn't tell how much memory there is. */
  readonly memory?: number;
  /** Find the fastest configurations of kernels, in a part of the time. */
  readonly tune: boolean;
  /** Cases that come before all others, in this order. */
  readonly first?: readonly RegExp[];
  readonly commit: { readonly id: string; readonly dirty: boolean };
  /** Ends the run after the case that is being measured. */
  readonly signal?: AbortSignal;
  /** A step that has begun, a line that stays. */
  readonly progress: (text: string) => void;
  readonly note: (text: string) => void;
}

/** Bytes that most adapters of the kind have. */
const MEMORY = { software: 2 ** 30, gpu: 12 * 2 ** 30 } as const;

/** Part of the time that tuning may take. */
const TUNING = 0.3;

function limitsFor(device: Device, { quick, budget, memory, first }: RunOptions, spent: number): PlanLimits {
  const { software } = device.adapter;
  return {
    budget: (budget ?? (quick ? 50 : 540)) - spent,
    iteration: quick ? 0.3 : 3,
    step: quick ? 0.3 : 25,
    // A GPU that idled while the host compiled is warmed up for a few tenths of a second.
    overhead: software ? { kernel: 0.5, step: 1 } : { kernel: 0.7, step: 3 },
    seconds: quick ? 0.05 : software ? 0.25 : 0.1,
    binding: Math.min(device.limits.maxStorageBufferBindingSize, device.limits.maxBufferSize),
    memory: memory ?? (software ? MEMORY.software : MEMORY.gpu),
    priority: quick ? 0 : Infinity,
    has: (feature) => device.has(feature),
    ...(first && { first }),
  };
}

/** @throws AdapterError where there is no adapter */
export async function runBenchmark(
  cases: readonly BenchCase[],
  options: RunOptions,
): Promise<{ result: BenchResult; tuning: TuningData }> {
  const begun = performance.now();
  const elapsed = (): number => (performance.now() - begun) / 1000;
  const { filter, quick, progress, note } = options;
  const wanted = filter === undefined ? cases : cases.filter((c) => matches(c, filter));
  if (wanted.length === 0)
    throw new Error(
      `[bench] No case's name and size contain ${JSON.stringify(filter)}, expected part of one such as "${idOf(cases[0])}".`,
    );
  const open = async (): Promise<Device> => {
    const device = await openDevice(options.device);
    await loadTuning(device);
    return device;
  };
  let device = await open();
  try {
    const { adapter, tier } = device;
    note(
      `${[adapter.vendor, adapter.architecture, adapter.device].filter(Boolean).join(' ')}${adapter.description ? ` (${adapter.description})` : ''}, tier ${tier}`,
    );
    const ceilings = await measureCeilings(device, { quick, progress: (what) => progress(`ceilings: ${what}`) });
    note(ceilingsTable(ceilings));

    const limits = limitsFor(device, options, elapsed());
    // Who names cases wants them, whatever their priority.
    const plan = planCases(wanted, ceilings, filter === undefined ? limits : { ...limits, priority: Infinity });
    const { shipped, measured } = tuningOf(device);
    note(
      `Kernels: ${measured} kinds of calls measured here before${shipped ? `, ${Object.keys(shipped.entries).length} from the shipped table of ${shipped.name}` : ''}, the others by rule of thumb`,
    );
    note(`${plan.chosen.length} cases, about ${Math.ceil(plan.seconds / 60)} min`);

    const rows: BenchRow[] = [];
    const failed: { id: string; message: string }[] = [];
    const leftOut = [...plan.leftOut];
    const deadline = elapsed() + limits.budget;
    const tune = options.tune ? tuner(TUNING * limits.budget) : undefined;
    for (const [i, c] of plan.chosen.entries()) {
      const id = idOf(c);
      if (elapsed() + costOf(c, ceilings, limits) > deadline || options.signal?.aborted) {
        leftOut.push({
          id,
          reason: options.signal?.aborted ? 'interrupted' : 'no time left: others took longer than estimated',
        });
        continue;
      }
      progress(`[${i + 1}/${plan.chosen.length}] ${id}`);
      try {
        const row = await measureRow(device, c, ceilings, { seconds: limits.seconds, ...(tune && { tune }) });
        rows.push(row);
        note(`[${i + 1}/${plan.chosen.length}] ${progressLine(row)}`);
      } catch (error) {
        const message = error instanceof Error ? error.message.split('\n')[0] : String(error);
        failed.push({ id, message });
        note(`[${i + 1}/${plan.chosen.length}] ${id}: failed: ${message}`);
        // Whatever went wrong stays with the device.
        device.destroy();
        const tuning = tuningOf(device).exportTuning();
        device = await open();
        tuningOf(device).importTuning(tuning);
      }
    }
    const drift = (await arithmeticRate(device)) / ceilings.fma.f32;
    if (drift < 0.8)
      note(`The adapter ran at ${drift.toFixed(2)}× its first speed in the end: others use it, or it grew hot.`);
    const { vendor, architecture, device: name, description, software } = adapter;
    const result: BenchResult = {
      schema: SCHEMA,
      date: new Date().toISOString(),
      commit: options.commit.id,
      dirty: options.commit.dirty,
      tier,
      adapter: { vendor, architecture, device: name, description, software },
      host: {
        platform: `${process.platform}-${process.arch}`,
        node: process.version,
        cpu: cpus()[0]?.model ?? '',
        cores: cpus().length,
      },
      ceilings,
      drift,
      rows: sorted(rows, cases),
      leftOut,
      failed,
      seconds: elapsed(),
    };
    // With what was measured of such a device before, so that a short run loses none of it.
    return { result, tuning: tuningOf(device).exportTuning({ shipped: tuningOf(device).shipped?.match === 'device' }) };
  } finally {
    device.destroy();
  }
}

export function matches(c: BenchCase, filter: string): boolean {
  return `${c.group} ${idOf(c)}`.toLowerCase().includes(filter.toLowerCase());
}

async function measureRow(
  device: Device,
  c: BenchCase,
  ceilings: Ceilings,
  options: Omit<MeasureOptions, 'batch'>,
): Promise<BenchRow> {
  const m = await measure(device, c, { batch: 0.02, ...options });
  const limit = limitOf(c.work, m.dispatches, ceilings);
  const { parts: _parts, ...work } = c.work;
  return {
    group: c.group,
    name: c.name,
    size: c.size,
    work,
    ...m,
    bound: limit.bound,
    share: limit.seconds / timeOf({ ...m, group: c.group }),
    ...(c.images && { images: c.images }),
  };
}

/** Rows in the order of the cases, group by group. */
function sorted(rows: readonly BenchRow[], cases: readonly BenchCase[]): BenchRow[] {
  const place = new Map(cases.map((c, i) => [idOf(c), GROUPS.indexOf(c.group) * 1e6 + i]));
  return [...rows].sort((a, b) => place.get(idOf(a))! - place.get(idOf(b))!);
}
