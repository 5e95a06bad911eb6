// The autoencoder of latent diffusion.

export { AutoencoderKL } from './autoencoderKL.ts';
export { latentFactor, VAE_DEFAULTS, vaeConfig, type VaeConfig, type VaeOptions } from './config.ts';
export { fromDiffusers, toDiffusers, type DiffusersVae } from './diffusers.ts';
export { currentName, currentNames } from './names.ts';
export { DiagonalGaussian } from './posterior.ts';
export { decoderMultiplyAdds, vaeParameterCount, vaeShapes } from './shapes.ts';
export type { TileOptions } from './tiles.ts';
export { psnr, TrainableVae, VaeObjective, type VaeLossOptions } from './training.ts';
