// What a set of samples is made by: written beside its parts, so that only the same set goes on.

/** What decides the images of a set, but for how many there are. */
export interface SampleSetIdentity {
  /** Of the checkpoint. */
  readonly checkpoint: string;
  readonly seed: number;
  readonly batch: number;
  readonly sampler: string;
  readonly eta: number;
  readonly steps: number;
  readonly guidance: number;
  readonly guidanceChannels: number | null;
  readonly precision: string;
  readonly classes: readonly number[] | null;
  readonly labels: LabelOrder;
  /** Height, width, channels. */
  readonly shape: readonly [number, number, number];
  /** Digest of the autoencoder that decodes them, of a model of latents. */
  readonly vae?: string;
}

/** Classes in turn, or drawn by the seed. */
export type LabelOrder = 'cycle' | 'random';
