// Every operation of the engine.

export * from './create.ts';
export * from './elementwise.ts';
export * from './movement.ts';
export * from './reduce.ts';
export * from './softmax.ts';
export * from './indexing.ts';
export * from './cumsum.ts';
export * from './matmul.ts';
export { assign as copyInto } from '../elementwise.ts';
