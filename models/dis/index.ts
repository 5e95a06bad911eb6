// DiS: configurations, what they cost, and the model.

export * from './config.ts';
export { disConfigFromShapes } from './configFromShapes.ts';
export * from './cost.ts';
export { Dis, type DisForwardOptions, type DisGuidanceOptions } from './dis.ts';
export type { DisDraws } from './draws.ts';
export * from './officialCheckpoint.ts';
export { patchify, unpatchify } from './patchEmbed.ts';
export { recogniseWeights } from './recognise.ts';
export * from './shapes.ts';
export { timestepEmbedding, type TimestepEmbeddingOptions } from './timestepEmbedding.ts';
