export { scaledDotProductAttention, type AttentionOptions } from './attention.ts';
