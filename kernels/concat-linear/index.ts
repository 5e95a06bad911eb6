export { concatLinear } from './concatLinear.ts';
