// Sampling: labels, guidance, batches, and images that begin with images.

export { imageToImage, inpaint, type ImageToImageOptions, type InpaintOptions } from './edit.ts';
export { guide, withLabels, type ClassifierFreeGuidance, type LabelledModel } from './guidance.ts';
export { ImageNoise } from './imageNoise.ts';
export {
  checkSampling,
  sampleImages,
  sampleProgressive,
  type CollectOptions,
  type SampledStep,
  type SampleOptions,
  type Samples,
} from './sample.ts';
