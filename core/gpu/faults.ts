// Which work failed, and whose values are wrong because of it. WebGPU drops a whole batch of commands where one of them
// is invalid, and says so later. So each batch is submitted in an error scope of its own and is remembered until the
// verdict is there; then the error is what reading, or computing with, anything that the batch wrote throws. Everything
// else goes on.

import { GpuError } from '../errors.ts';
import type { GPUCommandEncoder, GPUDevice } from './webgpu.ts';

/** What loses its values when work fails: memory, or a readback. */
export interface Faultable {
  /** Why its values are not to be had; null where they are. */
  failure: Error | null;
}

/** A command of a batch. */
export interface Work {
  /** Why the batch failed, where this command knows it better than WebGPU says it. */
  readonly cause: Error | null;
  readonly touched: readonly Faultable[];
  /** Those of `touched` that it writes. */
  readonly written: readonly Faultable[];
}

/** A copy: where it goes has no values where its source has none. */
export function copyWork(from: Faultable, to: Faultable): Work {
  return { cause: null, touched: [from, to], written: [to] };
}

export class Faults {
  private readonly gpu: GPUDevice;
  /** Resolves when all that may name a cause is known. */
  private readonly diagnosed: () => Promise<void>;
  /** Batches that failed so far. */
  count = 0;
  private open: Work[] = [];
  private last: Work | null = null;
  /** Batches whose verdict is not there yet, the oldest first. */
  private readonly submitted: Work[][] = [];
  private verdicts: Promise<void> = Promise.resolve();
  /** Errors of known work that nobody was told yet. */
  private readonly untold = new Set<Error>();
  /** Errors of WebGPU that belong to no work of the stream. */
  private readonly strays: Error[] = [];

  constructor(gpu: GPUDevice, diagnosed: () => Promise<void>) {
    this.gpu = gpu;
    this.diagnosed = diagnosed;
  }

  /** Adds a command to the open batch, or several in a row that are one work. */
  note(work: Work): void {
    if (this.last === work) return;
    this.last = work;
    this.open.push(work);
  }

  /** Submits the open batch. */
  submit(encoder: GPUCommandEncoder): void {
    const batch = this.open;
    this.open = [];
    this.last = null;
    this.submitted.push(batch);
    this.gpu.pushErrorScope('validation');
    this.gpu.queue.submit([encoder.finish()]);
    // A device that is lost has no verdict; whoever waits is told of the loss.
    const verdict = this.gpu.popErrorScope().catch(() => null);
    this.verdicts = this.verdicts.then(async () => {
      const error = await verdict;
      if (error) await this.failed(batch, error);
      this.submitted.shift();
    });
  }

  /** Resolves when the verdicts of all batches submitted so far are there. */
  settled(): Promise<void> {
    return this.verdicts;
  }

  /** Takes an error that no batch is known to have made. The next who waits is told. */
  stray(error: Error): void {
    this.strays.push(error);
  }

  /** Throws why something has no values. */
  check(what: Faultable): void {
    if (!what.failure) return;
    this.untold.delete(what.failure);
    throw what.failure;
  }

  /**
   * Throws what nobody was told yet: of WebGPU's errors those that belong to no work, with `all` also those of work
   * that nobody read.
   */
  tell(all: boolean): void {
    const [first] = all ? [...this.strays, ...this.untold] : this.strays;
    this.strays.length = 0;
    if (all) this.untold.clear();
    if (first as Error | undefined) throw first;
  }

  /** Forgets what is open; for a device that is gone. */
  abandon(): void {
    this.open = [];
    this.last = null;
  }

  private async failed(batch: readonly Work[], { message }: GPUError): Promise<void> {
    await this.diagnosed();
    this.count++;
    const cause = batch.find((work) => work.cause)?.cause ?? new GpuError('device', message);
    this.untold.add(cause);
    for (const { written } of batch) for (const memory of written) memory.failure ??= cause;
    // What was computed from it before the verdict was there. The batches that failed themselves are among these.
    const since = this.submitted.slice(this.submitted.indexOf(batch as Work[]) + 1);
    for (const { touched, written } of [...since, this.open].flat()) {
      const failure = touched.find((memory) => memory.failure)?.failure;
      if (failure) for (const memory of written) memory.failure ??= failure;
    }
  }
}
