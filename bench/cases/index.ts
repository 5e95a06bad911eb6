// Everything that the benchmark can measure.

import type { BenchCase } from '../case.ts';
import { attentionAndDecoderCases } from './attention.ts';
import { conv2dCases } from './conv2d.ts';
import { generalCases } from './general.ts';
import { kernelCases } from './kernels.ts';
import { matmulCases } from './matmul.ts';
import { stepCases } from './steps.ts';

export function allCases(): BenchCase[] {
  return [
    ...matmulCases(),
    ...kernelCases(),
    ...conv2dCases(),
    ...attentionAndDecoderCases(),
    ...generalCases(),
    ...stepCases(),
  ];
}
