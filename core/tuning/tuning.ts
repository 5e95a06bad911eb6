// Which configuration of a kernel to take for which problem, found by measuring once on this adapter.
//
// What is fast on one GPU is slow on another, and the vendor's name doesn't tell. So a kernel that has several
// configurations asks `choose` (gpu/tunable.ts) for one. The answer is immediate: what was measured here; else what was
// measured on such an adapter and comes with the engine (shipped.ts); else the kernel's own rule of thumb, and then the
// problem is noted. `tune` measures all problems that were noted. Results can be exported as JSON, and imported when
// the same adapter is opened again.

import type { Device } from '../gpu/device.ts';
import { setChooser, type Chooser, type Tunable } from '../gpu/tunable.ts';
import { ValueError } from '../errors.ts';

/** What was found for one class of problems. */
export interface TuningResult {
  readonly key: string;
  /** The fastest; null where nothing was clearly faster than the heuristic's choice. */
  readonly config: unknown;
  /** Median milliseconds of the fastest and of the heuristic's choice. */
  readonly ms: number;
  readonly heuristicMs: number;
  /** Configurations that were measured. */
  readonly candidates: number;
}

/** What `Tuning.tune` measures, and how it reports. */
export interface TuneOptions {
  readonly signal?: AbortSignal;
  /** Called after each class of problems. */
  readonly onResult?: (result: TuningResult, done: number, total: number) => void;
  /** How often each of the better candidates is measured. */
  readonly rounds?: number;
  /** Measure also what the shipped table answers. Default false. */
  readonly shipped?: boolean;
}

/** A table that comes with the engine, and why it is used: it is of the same device, or of the same architecture. */
export interface ShippedTuning {
  /** The adapter that it was measured on. */
  readonly name: string;
  readonly match: 'device' | 'architecture';
  /** By key; null keeps the heuristic. */
  readonly entries: Readonly<Record<string, unknown>>;
}

/** A table of configurations as JSON. */
export interface TuningData {
  readonly format: 'dis-tuning-1';
  readonly adapter: string;
  /** By key; null keeps the heuristic. */
  readonly entries: Readonly<Record<string, unknown>>;
}

interface Pending {
  readonly tunable: Tunable<unknown, unknown>;
  readonly problem: unknown;
}

/**
 * Which configuration each tunable kernel has for each problem on one device: measured, given, shipped, or by rule of
 * thumb. `tuningOf(device)` gives it.
 */
export class Tuning implements Chooser {
  private readonly device: Device;
  /** Measured, or given and accepted; null keeps the heuristic. */
  private readonly chosen = new Map<string, unknown>();
  private readonly imported = new Map<string, unknown>();
  /** Problems that came up and were not measured here. */
  private readonly waiting = new Map<string, Pending>();
  private table: ShippedTuning | null = null;
  /** Keys that the shipped table answered. */
  private readonly answered = new Set<string>();

  constructor(device: Device) {
    this.device = device;
  }

  /** The configuration to compute a problem with. Costs a look-up in a table, and never waits. */
  choose<P, C>(tunable: Tunable<P, C>, problem: P): C {
    const key = `${tunable.name} ${tunable.key(problem)}`;
    let config = this.chosen.get(key) as C | null | undefined;
    if (config === undefined) config = this.accept(key, tunable, problem);
    return config ?? tunable.heuristic(this.device, problem);
  }

  private accept<P, C>(key: string, tunable: Tunable<P, C>, problem: P): C | null {
    const takes = (given: unknown): given is C | null =>
      given === null || (given !== undefined && tunable.accepts(this.device, problem, given));
    const given = this.imported.get(key);
    if (takes(given)) {
      this.chosen.set(key, given);
      return given;
    }
    if (!this.waiting.has(key))
      this.waiting.set(key, { tunable: tunable as Tunable<unknown, unknown>, problem: tunable.outline(problem) });
    const shipped = this.table?.entries[key];
    if (!takes(shipped)) return null;
    this.chosen.set(key, shipped);
    this.answered.add(key);
    return shipped;
  }

  /**
   * Uses a table that was measured elsewhere, for what was not measured here; null uses none. Configurations that this
   * build cannot compute are ignored.
   */
  ship(table: ShippedTuning | null): void {
    for (const key of this.answered) this.chosen.delete(key);
    this.answered.clear();
    this.table = table;
  }

  /** The shipped table in use. */
  get shipped(): ShippedTuning | null {
    return this.table;
  }

  /** Classes of problems that were measured on this adapter. */
  get measured(): number {
    return Object.keys(this.exportTuning().entries).length;
  }

  /** Classes of problems that came up and have neither a measurement nor an entry in the shipped table. */
  get pending(): number {
    return this.waiting.size - this.answered.size;
  }

  /**
   * Measures the problems that came up and were not measured yet. Nothing else should run on the adapter meanwhile.
   *
   * @throws ValueError while a step is being captured
   */
  async tune(options: TuneOptions = {}): Promise<TuningResult[]> {
    const { device } = this;
    if (device.stream.recorder)
      throw new ValueError('tune', 'A step is being captured', {
        expected: 'a device at rest',
        remedy: 'tune before or after capture()',
      });
    const results: TuningResult[] = [];
    const list = [...this.waiting].filter(([key]) => options.shipped || !this.answered.has(key));
    for (const [key, { tunable, problem }] of list) {
      if (options.signal?.aborted) break;
      const result = { key, ...(await contest(device, tunable, problem, options.rounds ?? 8)) };
      this.chosen.set(key, result.config);
      this.waiting.delete(key);
      this.answered.delete(key);
      results.push(result);
      options.onResult?.(result, results.length, list.length);
    }
    return results;
  }

  /**
   * Everything that was measured or imported. With `shipped` also the shipped table: all that the device computes with.
   */
  exportTuning({ shipped = false }: { readonly shipped?: boolean } = {}): TuningData {
    const own = [...this.imported, ...this.chosen].filter(([key]) => !this.answered.has(key));
    const entries = new Map([...Object.entries(shipped ? (this.table?.entries ?? {}) : {}), ...own]);
    return {
      format: 'dis-tuning-1',
      adapter: adapterKey(this.device),
      entries: Object.fromEntries([...entries].sort(([a], [b]) => (a < b ? -1 : 1))),
    };
  }

  /**
   * Takes the entries of an earlier export, unless it is of another adapter or format. Configurations that this build
   * cannot compute are ignored when they are asked for. With `alone` the shipped table is not used any more: what the
   * export doesn't know is computed by rule of thumb, as it was then.
   *
   * @returns the number of entries taken
   */
  importTuning(data: unknown, { alone = false }: { readonly alone?: boolean } = {}): number {
    const { format, adapter, entries } = (data ?? {}) as Partial<TuningData>;
    if (
      format !== 'dis-tuning-1' ||
      !namesAdapter(this.device, adapter) ||
      typeof entries !== 'object' ||
      entries === null
    )
      return 0;
    if (alone) this.ship(null);
    const list = Object.entries(entries).map(([key, config]) => [key, withPresentNames(config)] as const);
    for (const [key, config] of list) {
      this.imported.set(key, config);
      this.chosen.delete(key);
      this.answered.delete(key);
    }
    return list.length;
  }
}

const tunings = new WeakMap<Device, Tuning>();

/** What was measured on a device. From the first call on, its kernels are chosen by it. */
export function tuningOf(device: Device): Tuning {
  let tuning = tunings.get(device);
  if (!tuning) {
    tuning = new Tuning(device);
    tunings.set(device, tuning);
    setChooser(device, tuning);
  }
  return tuning;
}

/**
 * What identifies an adapter, as far as a page can see, and the tier. Not the driver's version: which configuration is
 * fastest depends mostly on the hardware, and each update of a driver would discard measurements that take minutes.
 * `dis-cli tune --again` measures again.
 */
export function adapterKey({ adapter, tier }: Pick<Device, 'adapter' | 'tier'>): string {
  return [adapter.vendor, adapter.architecture, adapter.device, tier].filter((part) => part).join(' / ');
}

/** Whether an export is of this adapter. Earlier versions also named the driver, before the tier. */
export function namesAdapter(device: Device, name: unknown): boolean {
  if (typeof name !== 'string') return false;
  const parts = name.split(' / ');
  return (
    name === adapterKey(device) ||
    (device.adapter.device !== '' && [...parts.slice(0, -2), ...parts.slice(-1)].join(' / ') === adapterKey(device))
  );
}

/** Fields of configurations that had other names in earlier versions. */
const RENAMED: Readonly<Record<string, string>> = { flip: 'transposeOutput', every: 'saveInterval' };

/** A configuration of an earlier export, with the present names of its fields. */
function withPresentNames(config: unknown): unknown {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return config;
  return Object.fromEntries(Object.entries(config).map(([name, value]) => [RENAMED[name] ?? name, value]));
}

/** A sample lasts at least so many milliseconds; short work is repeated. */
const SAMPLE_MS = 3;

/** Most dispatches of a sample: they fit into one submission. */
const SAMPLE_DISPATCHES = 200;

/** After one sample, candidates that are slower than the best by this factor are dropped. */
const HOPELESS = 1.5;

/** A challenger must be this much faster by the median, and in three of four rounds. */
const CLEARLY = 0.97;

async function contest(
  device: Device,
  tunable: Tunable<unknown, unknown>,
  problem: unknown,
  rounds: number,
): Promise<Omit<TuningResult, 'key'>> {
  const heuristic = tunable.heuristic(device, problem);
  const text = JSON.stringify(heuristic);
  const configs = [
    heuristic,
    ...tunable.candidates(device, problem).filter((config) => JSON.stringify(config) !== text),
  ];
  const prepared = tunable.prepare(device, problem);
  const { profiler } = device;
  try {
    for (const config of configs) prepared.run(config);
    await device.synchronize();
    // The clock fell while all of them were compiled.
    const { warmUp } = await import('./warmUp.ts'); // most programs measure nothing
    await warmUp(device);

    const entrants: { config: unknown; repeats: number; first: number; times: number[] }[] = [];
    for (const config of configs) {
      const run = (): void => prepared.run(config);
      const before = device.stream.dispatches;
      const once = await sample(device, run, 1);
      const most = Math.max(1, Math.floor(SAMPLE_DISPATCHES / (device.stream.dispatches - before)));
      const repeats = Math.min(most, Math.max(1, Math.ceil(SAMPLE_MS / once)));
      entrants.push({ config, repeats, first: repeats > 1 ? await sample(device, run, repeats) : once, times: [] });
    }
    const best = Math.min(...entrants.map(({ first }) => first));
    const field = entrants.filter(({ first }, i) => i === 0 || first <= HOPELESS * best);
    for (let round = 0; round < (field.length > 1 ? rounds : 1); round++) {
      // Each round begins with another one.
      for (let i = 0; i < field.length; i++) {
        const { config, repeats, times } = field[(i + round) % field.length];
        times.push(await sample(device, () => prepared.run(config), repeats));
      }
    }
    const [incumbent, ...challengers] = field;
    const heuristicMs = median(incumbent.times);
    let winner = incumbent;
    for (const challenger of challengers) {
      const won = challenger.times.filter((t, i) => t < incumbent.times[i]).length;
      if (
        median(challenger.times) < median(winner.times) &&
        median(challenger.times) <= CLEARLY * heuristicMs &&
        won >= 0.75 * rounds
      )
        winner = challenger;
    }
    return {
      config: winner === incumbent ? null : winner.config,
      ms: median(winner.times),
      heuristicMs,
      candidates: configs.length,
    };
  } finally {
    device.profiler = profiler;
    prepared.dispose();
  }
}

/** Milliseconds of one run among `repeats`: from the first timestamp to the last, where the GPU has timestamps. */
async function sample(device: Device, run: () => void, repeats: number): Promise<number> {
  if (!device.has('timestamp-query')) {
    const begun = performance.now();
    for (let i = 0; i < repeats; i++) run();
    await device.synchronize();
    return (performance.now() - begun) / repeats;
  }
  const { Profiler } = await import('../profile/profiler.ts');
  const profiler = new Profiler(device);
  device.profiler = profiler;
  for (let i = 0; i < repeats; i++) run();
  device.profiler = null;
  const events = await profiler.events();
  await device.synchronize();
  const first = Math.min(...events.map((e) => e.start));
  // Browsers have a clock with ticks of 100 µs, which may show nothing at all.
  return Math.max(1e-3, Math.max(...events.map((e) => e.start + e.gpu)) - first) / repeats;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
