export { adamWConfig, advanceAdamW, fusedAdamW, type AdamWConfig, type FusedAdamWArgs } from './fusedAdamW.ts';
export { gatherGradients, GRADIENTS_PER_DISPATCH, type GradientPlace } from './gatherGradients.ts';
export {
  globalNorm,
  globalNormConfig,
  globalNormPartials,
  type FlatArray,
  type GlobalNormConfig,
} from './globalNorm.ts';
export {
  ADAMW_SETTINGS_WORDS,
  ADAMW_STATE_WORDS,
  adamWSettings,
  adamWState,
  adamWWord,
  type AdamWCounter,
  type AdamWSettings,
} from './state.ts';
