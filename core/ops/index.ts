// Every operation of the engine.

export * from './create.ts';
export * from './elementwise.ts';
export * from './join.ts';
export * from './movement.ts';
export * from './reduce.ts';
export * from './softmax.ts';
export * from './indexing.ts';
export * from './cumsum.ts';
export * from './matmul.ts';
export { sort, topk, type SortedValues } from './sort.ts';
export { fold, unfold, type Pair, type WindowOptions } from './unfold.ts';
export {
  conv1d,
  conv2d,
  convTranspose2d,
  type Conv1dOptions,
  type Conv2dOptions,
  type ConvTranspose2dOptions,
} from './conv2d.ts';
export { avgPool2d, maxPool2d, type AvgPoolOptions, type PoolOptions } from './pool2d.ts';
export { adaptiveAvgPool2d, interpolate, type InterpolateOptions } from './resample2d.ts';
export { copyInto } from '../expr/elementwise.ts';
