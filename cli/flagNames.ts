// Which flag sets an option of the API, so that a complaint about the option names what was typed.

const FLAG_OF: Readonly<Record<string, string>> = {
  background: '--background',
  batchSize: '--batch',
  channels: '--channels',
  classDropoutProb: '--label-dropout',
  depth: '--depth',
  dropPathRate: '--drop-path',
  emaDecay: '--ema',
  embedDim: '--embed-dim',
  eta: '--eta',
  guidance: '--guidance',
  imgSize: '--image-size',
  lr: '--lr',
  maxNorm: '--clip',
  microBatches: '--micro-batches',
  minLr: '--min-lr',
  patchSize: '--patch-size',
  seed: '--seed',
  size: '--image-size',
  'ssm.dState': '--d-state',
  split: '--split',
  steps: '--steps',
  total: '--steps',
  warmup: '--warmup',
  weightDecay: '--weight-decay',
};

/** The API's options that have a flag. */
export const OPTIONS_WITH_FLAG: readonly string[] = Object.keys(FLAG_OF);

/** The flag that sets an option, or the option itself where it has none. */
export function flagOf(option: string): string {
  return FLAG_OF[option] ?? option;
}
