export { causalConv1d, type CausalConv1dOptions } from './op.ts';
