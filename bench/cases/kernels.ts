// The hand-tuned kernels at the shapes of DiS.

import { grad, type Tensor, type FloatDType } from '../../core/index.ts';
import {
  addLayerNorm,
  addRmsNorm,
  causalConv1d,
  selectiveScan,
  selectiveScanBidirectional,
  type ScanParameters,
} from '../../kernels/index.ts';
import type { BenchCase } from '../case.ts';
import { convWork, layerNormWork, rmsNormWork, scanWork, type BothWays } from './count.ts';
import { backwardOf, bytesOf, disShapes, forwardOf, type DisShape, type Inputs } from './shapes.ts';

const retained = (roots: readonly Tensor[], inputs: readonly Tensor[], gradient: readonly Tensor[]): unknown =>
  grad(roots, inputs, { gradient, retainGraph: true });

/** A forward and a backward case of one operation. `tensors` of the largest kind are alive at once, `together` gradients lie in one buffer. */
function pair(
  group: BenchCase['group'],
  name: string,
  shape: DisShape,
  type: FloatDType,
  largest: number,
  tensors: number,
  work: BothWays,
  make: (inputs: Inputs) => { of: readonly Tensor[]; compute: (of: readonly Tensor[]) => Tensor | readonly Tensor[] },
  together = 1,
): BenchCase[] {
  const common = {
    group,
    size: type === 'f16' ? `${shape.label} f16` : shape.label,
    largest,
    priority: shape.priority + (type === 'f16' ? 1 : 0),
    ...(type === 'f16' && { needs: 'shader-f16' as const }),
  };
  return [
    {
      ...common,
      name: `${name} forward`,
      work: work.forward,
      live: largest * tensors,
      prepare: (device) =>
        forwardOf(device, (inputs) => {
          const { of, compute } = make(inputs);
          return () => compute(of);
        }),
    },
    {
      ...common,
      name: `${name} backward`,
      work: work.backward,
      largest: largest * together,
      live: largest * tensors * 2,
      dispatches: 3,
      prepare: (device) => backwardOf(device, make, retained),
    },
  ];
}

/** Arguments of one direction: a step size around softplus(-2) and states that decay, as in a trained model. */
function scanArguments(
  inputs: Inputs,
  { batch, tokens, inner, states }: DisShape,
  dtype: FloatDType,
): { tensors: Tensor[]; named: (of: readonly Tensor[]) => ScanParameters } {
  const random = (shape: number[], low = -1, high = 1, type: FloatDType = dtype): Tensor =>
    inputs.random(shape, { low, high, dtype: type });
  const tensors = [
    random([batch, tokens, inner]),
    random([batch, tokens, inner], -3, -1),
    random([inner, states], -2, -0.5, 'f32'),
    random([batch, tokens, states]),
    random([batch, tokens, states]),
    random([inner], -1, 1, 'f32'),
    random([inner], -1, 0, 'f32'),
  ];
  return { tensors, named: ([u, delta, A, B, C, D, deltaBias]) => ({ u, delta, A, B, C, D, deltaBias }) };
}

function scanCases(shape: DisShape, type: FloatDType): BenchCase[] {
  const { batch, tokens, inner } = shape;
  const largest = batch * tokens * inner * bytesOf(type);
  const gate = (inputs: Inputs): Tensor => inputs.random([batch, tokens, inner], { dtype: type });
  const one = pair(
    'scan',
    'selectiveScan',
    shape,
    type,
    largest,
    6,
    scanWork(shape, type, 1),
    (inputs) => {
      const { tensors, named } = scanArguments(inputs, shape, type);
      return {
        of: [...tensors, gate(inputs)],
        compute: (of) => selectiveScan({ ...named(of.slice(0, 7)), z: of[7], deltaSoftplus: true }),
      };
    },
    3,
  );
  const both = pair(
    'scan',
    'selectiveScanBidirectional',
    shape,
    type,
    largest,
    10,
    scanWork(shape, type, 2),
    (inputs) => {
      const [a, b] = [scanArguments(inputs, shape, type), scanArguments(inputs, shape, type)];
      return {
        of: [...a.tensors, ...b.tensors, gate(inputs)],
        compute: (of) =>
          selectiveScanBidirectional({
            forward: a.named(of.slice(0, 7)),
            reverse: b.named(of.slice(7, 14)),
            z: of[14],
            deltaSoftplus: true,
          }),
      };
    },
    6,
  );
  return [...one, ...both];
}

function convCases(shape: DisShape, type: FloatDType): BenchCase[] {
  const { batch, tokens, inner } = shape;
  const taps = 4;
  return pair(
    'conv',
    'causalConv1d + SiLU',
    shape,
    type,
    batch * tokens * inner * bytesOf(type),
    2,
    convWork(shape, type, taps),
    (inputs) => ({
      of: [
        inputs.random([batch, tokens, inner], { dtype: type }),
        inputs.random([inner, taps]),
        inputs.random([inner]),
      ],
      compute: ([x, weight, bias]) => causalConv1d({ x, weight, bias, activation: 'silu' }),
    }),
  );
}

function normCases(shape: DisShape, type: FloatDType): BenchCase[] {
  const { batch, tokens, width } = shape;
  const largest = batch * tokens * width * bytesOf(type);
  return [
    ...pair('norm', 'addRmsNorm', shape, type, largest, 4, rmsNormWork(shape, type), (inputs) => ({
      of: [
        inputs.random([batch, tokens, width], { dtype: type }),
        inputs.random([batch, tokens, width], { dtype: type }),
        inputs.random([width]),
      ],
      compute: ([x, residual, weight]) => {
        const { y, residualOut } = addRmsNorm({ x, residual, weight, prenorm: true });
        return [y, residualOut];
      },
    })),
    ...pair('norm', 'addLayerNorm', shape, type, largest, 2, layerNormWork(shape, type), (inputs) => ({
      of: [inputs.random([batch, tokens, width], { dtype: type }), inputs.random([width]), inputs.random([width])],
      compute: ([x, weight, bias]) => addLayerNorm({ x, weight, bias }),
    })),
  ];
}

export function kernelCases(): BenchCase[] {
  return disShapes().flatMap((shape) =>
    (['f32', 'f16'] as const)
      // Layer norm stands once in a model, and is measured in one type.
      .flatMap((type) => [
        ...scanCases(shape, type),
        ...convCases(shape, type),
        ...normCases(shape, type).filter((c) => type === 'f32' || !c.name.includes('Layer')),
      ]),
  );
}
