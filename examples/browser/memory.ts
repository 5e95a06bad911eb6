// Whether a run fits, as far as a page can know: WebGPU tells no size of the GPU's memory, only the largest buffer that it will make.

import { disTrainingMemory, type DisConfig } from 'dis-webgpu/models';

export interface Machine {
  /** The adapter's largest buffer, in bytes. */
  readonly maxBufferSize: number;
  /** Bytes of main memory as the browser rounds them, at most 8 GiB; undefined where it doesn't tell. */
  readonly mainMemory: number | undefined;
  /** The adapter computes on the CPU, in main memory. */
  readonly software: boolean;
}

const GIB = 2 ** 30;
/** GPUs that share main memory get about half of it; where nothing is known, what a small GPU has. */
const SHARE = 0.5,
  SMALL_GPU = 4 * GIB;

/** A sentence where a model at a batch size may not fit, or cannot; undefined where nothing speaks against it. */
export function memoryWarning(config: DisConfig, batch: number, machine: Machine): string | undefined {
  const { total, parameters } = disTrainingMemory(config, { batch });
  const needed = `Training takes about ${(total / GIB).toPrecision(3)} GiB of GPU memory at batch ${batch}`;
  if (parameters > machine.maxBufferSize)
    return `${needed}, and this GPU makes no buffer that holds the model's parameters. Take a smaller model.`;
  const likely = machine.mainMemory === undefined ? SMALL_GPU : Math.max(SHARE * machine.mainMemory, GIB);
  if (total <= likely) return undefined;
  const where = machine.software ? 'this computer' : 'this GPU, if it is a small one,';
  return `${needed}, which may be more than ${where} has: the tab, or the whole desktop, may stop responding. Take a smaller batch or model.`;
}
