export { addLayerNorm, addRmsNorm, type AddNormArgs, type PrenormResult } from './addNorm.ts';
export { normConfig, normConfigs, type NormConfig } from './config.ts';
