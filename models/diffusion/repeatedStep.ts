// A step made again and again, with other values in the same tensors each time.

import { capture, keep, type CapturedStep, type Device, type Tensor } from '../../core/index.ts';

/** Steps that may be under way on the GPU at a time. */
const IN_FLIGHT = 2;

/**
 * Runs a step as it is the first time, which compiles its kernels, records it the second time, and replays the record
 * from then on. A recorded step must only dispatch: no read-back, and nothing in JavaScript that changes from step to
 * step.
 */
export class RepeatedStep {
  private readonly device: Device;
  private readonly step: () => Tensor;
  private readonly record: boolean;
  private runs = 0;
  private captured: CapturedStep<Tensor> | null = null;
  private result: Tensor | null = null;
  private readonly underWay: Promise<void>[] = [];

  /**
   * @param count how often it will run
   * @param record false to run it as it is every time
   */
  constructor(device: Device, step: () => Tensor, count: number, record: boolean) {
    this.device = device;
    this.step = step;
    // The second of two runs is not worth recording.
    this.record = record && count > 2;
  }

  /** Makes the step. Its result holds these values until the next run. */
  async run(): Promise<Tensor> {
    if (this.captured) this.captured.replay();
    else {
      this.result?.dispose();
      this.result = null;
      if (this.record && this.runs > 0) this.captured = capture(this.device, () => keep(this.step()));
      this.result = this.captured ? this.captured.result : keep(this.step());
    }
    this.runs++;
    const result = this.result!;
    const done = this.device.synchronize();
    done.catch(() => {
      /* whoever waits for it is told */
    });
    if (this.underWay.push(done) >= IN_FLIGHT) await this.underWay.shift();
    return result;
  }

  dispose(): void {
    this.captured?.dispose();
    this.result?.dispose();
  }
}
