// `train --profile`: GPU and host time of every dispatch of a few steps, as a Chrome trace and as a table.

import { LimitError } from '../core/errors.ts';
import { Profiler, type Device } from '../core/index.ts';
import { describeFailure } from './errors.ts';
import { writeFileAtomic } from './files.ts';
import { grouped } from './format.ts';

/** Steps that are left to compile, record and settle, and steps that are measured then. */
const WARM_UP = 3,
  MEASURED = 3;

/** Measures a few steps of a run. Its `stops` are steps at which nothing may be under way when `reached` is called. */
export class StepProfile {
  readonly stops: readonly [from: number, to: number];
  readonly #device: Device;
  readonly #path: string;
  #profiler: Profiler | null = null;
  #report: string | undefined;

  /**
   * @param path of the trace
   * @param start steps that the run has taken
   * @throws LimitError where the adapter has no timestamp queries
   */
  constructor(device: Device, path: string, start: number) {
    if (!device.has('timestamp-query'))
      throw new LimitError('train', 'The adapter has no timestamp queries, which --profile needs', {
        remedy: 'leave it out; the progress shows how long whole steps take',
      });
    this.#device = device;
    this.#path = path;
    this.stops = [start + WARM_UP, start + WARM_UP + MEASURED];
  }

  /** Begins to measure, or ends and writes the trace. */
  async reached(step: number): Promise<void> {
    const [from, to] = this.stops;
    if (step === from) this.#device.profiler = this.#profiler = new Profiler(this.#device);
    const profiler = this.#profiler;
    if (step < to || !profiler) return;
    this.stop();
    const written = await writeFileAtomic(this.#path, await profiler.chromeTrace()).then(
      () => `The trace is in ${this.#path}; open it in https://ui.perfetto.dev or chrome://tracing.`,
      (error: unknown) => `The trace could not be written: ${describeFailure(error).message}`,
    );
    this.#report =
      `Steps ${grouped(from + 1)} to ${grouped(to)}, each dispatch a pass of its own, which takes longer than in a pass with others:\n` +
      `${await profiler.table()}\n` +
      `${written}\n`;
  }

  /** What was measured, as a table. */
  get report(): string {
    return this.#report ?? `No profile: the run ended before step ${grouped(this.stops[1])}.\n`;
  }

  /** Measures no more. */
  stop(): void {
    this.#device.profiler = this.#profiler = null;
  }
}
