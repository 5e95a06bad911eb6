export { groupNorm, type GroupNormArguments } from './groupNorm.ts';
