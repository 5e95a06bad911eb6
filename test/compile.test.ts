// Every WGSL program that the engine, the kernels and the models make compiles under WebGPU's default limits, on the null adapter,
// which validates everything and runs nothing: with all features, and in portable forms with none of them. The operations are run
// over all of their options; a kernel that is defined anywhere and reached by none of them fails the last test.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import * as core from '../core/index.ts';
import {
  backward,
  grad,
  scope,
  zeros,
  type Device,
  type DType,
  type Shape,
  type Tensor,
  type FloatDType,
} from '../core/index.ts';
import type { GPUSubgroupMatrixConfig } from '../core/gpu/adapter.ts';
import { chooseConfig, configs, gemm, type GemmActivation } from '../core/gemm/index.ts';
import * as elementwise from '../core/ops/elementwise.ts';
import { rowSoftmax, rowSoftmaxTeams } from '../core/ops/rowSoftmax.ts';
import { spinKernel } from '../core/tuning/warmUp.ts';
import {
  addLayerNorm,
  addRmsNorm,
  causalConv1d,
  concatLinear,
  mambaInner,
  packGradients,
  placeGradients,
  selectiveScan,
  selectiveScanBidirectional,
  sumGradients,
  type MambaDirection,
  type ScanParameters,
  groupNorm,
} from '../kernels/index.ts';
import { attention } from '../kernels/attention/attention.ts';
import { normConfigs } from '../kernels/add-norm/config.ts';
import { createDiffusion, GaussianDiffusion } from '../models/diffusion/gaussianDiffusion.ts';
import {
  diffusionSettings,
  type DiffusionSettings,
  type LossType,
  type ModelMeanType,
  type ModelVarType,
} from '../models/diffusion/settings.ts';
import { Dis, disConfig } from '../models/dis/index.ts';
import { FusedAdamW, Module, parameter } from '../nn/index.ts';
import { cases, layouts } from './core/cases.ts';
import { gpuSuite } from './support.ts';

const test = gpuSuite('compile');

/** All combinations of the choices. */
function every<T extends Record<string, readonly unknown[]>>(choices: T): { [K in keyof T]: T[K][number] }[] {
  return Object.entries(choices).reduce<Record<string, unknown>[]>(
    (all, [key, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [key]: value }))),
    [{}],
  ) as { [K in keyof T]: T[K][number] }[];
}

const BOOLS = [false, true] as const;
const floats = (device: Device): FloatDType[] => (device.has('shader-f16') ? ['f32', 'f16'] : ['f32']);
const make = (device: Device, shape: Shape, dtype: DType = 'f32', requiresGrad = false): Tensor => {
  const t = zeros(device, shape, dtype);
  return requiresGrad ? t.requiresGrad_() : t;
};
const leaf = (device: Device, shape: Shape, dtype: DType = 'f32'): Tensor => make(device, shape, dtype, true);

/** Operands that are read as vectors, one for all, and element by element, in up to four dimensions. */
function views(device: Device, dtype: DType, n: number): Tensor[] {
  return [
    make(device, [n, n], dtype),
    make(device, [n], dtype),
    make(device, [n, 1], dtype),
    make(device, [n, n], dtype).T,
    make(device, [3, 2, n, n], dtype).permute(1, 0, 3, 2),
    make(device, [3, n + 1, n], dtype).slice(1, 1),
  ];
}

const workloads: Record<string, (device: Device) => void> = {
  attention(device) {
    for (const dtype of floats(device))
      for (const [inner, width] of [
        [3, 100],
        [8, 300],
        [64, 64],
      ])
        for (const kind of ['none', 'causal', 'bool', 'f32'] as const) {
          const [q, k, v] = [inner, inner, width].map((columns) => leaf(device, [2, 40, columns], dtype));
          const attnMask = kind === 'bool' || kind === 'f32' ? make(device, [40, 40], kind) : null;
          const out = attention(q, k, v, { attnMask, isCausal: kind === 'causal' }, 'fused');
          grad(out, [q, k, v], { gradient: make(device, out.shape, dtype) });
        }
  },
  'softmax of rows'(device) {
    for (const dtype of floats(device))
      for (const width of [7, 400])
        for (const team of rowSoftmaxTeams(device, width))
          for (const log of [false, true]) {
            rowSoftmax(make(device, [3, width], dtype), log, team);
            rowSoftmax(make(device, [3, 4 * width], dtype), log, team);
          }
  },
  'gradients that travel between GPUs'(device) {
    const [arena, received, packed] = [64, 64, 64].map((n) => make(device, [n]));
    packGradients(device, arena, packed, { first: 0, count: 8 });
    for (const wire of ['f32', 'f16'] as const) {
      const part = { received, wire, first: 0, count: 8, end: 32, rank: 1, ranks: 3 };
      sumGradients(device, arena, part);
      placeGradients(device, arena, part);
    }
  },
  'elementwise operations'(device) {
    const arity: Record<number, string[]> = {
      1: [
        'logicalNot',
        'neg',
        'abs',
        'sign',
        'square',
        'reciprocal',
        'exp',
        'log',
        'log1p',
        'expm1',
        'sqrt',
        'rsqrt',
        'sin',
        'cos',
        'tanh',
        'sigmoid',
        'erf',
        'erfc',
        'softplus',
        'silu',
        'gelu',
        'geluTanh',
        'relu',
        'floor',
        'ceil',
        'round',
        'trunc',
        'isNan',
        'isInf',
        'isFinite',
        'clone',
        'contiguous',
      ],
      2: [
        'add',
        'sub',
        'mul',
        'div',
        'pow',
        'remainder',
        'minimum',
        'maximum',
        'eq',
        'ne',
        'lt',
        'le',
        'gt',
        'ge',
        'logicalAnd',
        'logicalOr',
      ],
      3: ['where', 'clamp'],
    };
    const operations = elementwise as unknown as Record<string, (...x: (Tensor | number | string)[]) => Tensor>;
    assert.equal(
      Object.keys(operations)
        .filter((name) => name !== 'cast')
        .sort(),
      Object.values(arity).flat().sort(),
      'an operation that is not compiled here',
    );
    const types: DType[] = [...floats(device), 'i32', 'u32', 'bool'];
    for (const a of types) {
      // Access patterns are the same text for every operation; what differs is whether four elements are computed at a time.
      for (const n of [7, 8]) for (const x of views(device, a, n)) for (const y of views(device, a, n)) x.add(y);
      for (const x of [7, 8].map((n) => make(device, [n], a))) {
        for (const name of arity[1]) operations[name](x);
        for (const to of types) x.cast(to);
        for (const name of arity[2]) for (const y of [x, 2, 0.5]) operations[name](x, y);
        operations.where(x, 1, -0.5);
        operations.clamp(x, 0, 3);
      }
      for (const b of types) {
        const [x, y] = [make(device, [8, 8], a), make(device, [8, 1], b)];
        for (const name of arity[2]) operations[name](x, y);
        operations.where(make(device, [8], 'bool'), x, y);
        operations.clamp(x, y, y);
      }
    }
  },
  'operations with their derivatives'(device) {
    for (const [name, c] of Object.entries(cases)) {
      for (const [size, layout] of [
        [7, 'dense'],
        [8, 'dense'],
        [8, 'transposed'],
      ] as const) {
        for (const dtype of layout === 'dense' ? floats(device) : (['f32'] as const)) {
          scope(() => {
            const shapes = c.shapes(size);
            const leaves = shapes.map((shape) => leaf(device, layouts[layout].stored(shape), dtype));
            const out = c.fn(...leaves.map((t, k) => layouts[layout].view(t, shapes[k])));
            const first = grad(out.sum(), leaves, { createGraph: true }).filter((g) => g.requiresGrad);
            if (first.length && name !== 'sum')
              grad(core.concat(first.map((g) => g.reshape(-1).cast('f32'))).sum(), leaves, { allowUnused: true });
          });
        }
      }
    }
  },
  'reductions, running sums and indexing'(device) {
    for (const dtype of [...floats(device), 'i32', 'u32', 'bool'] as DType[]) {
      for (const shape of [
        [9, 7],
        [40, 70],
        [1, 9000],
        [9000, 2],
        [2000, 4],
      ]) {
        const x = make(device, shape, dtype);
        for (const axis of [0, 1]) {
          x.sum(axis);
          x.max(axis);
          x.min(axis);
          x.argmax(axis);
          x.argmin(axis);
          x.mean(axis);
          x.cumsum(axis);
        }
      }
      const x = make(device, [4, 6], dtype);
      if (dtype !== 'bool') for (const descending of [false, true]) x.sort(0, { descending });
      for (const index of ['i32', 'u32'] as const) {
        x.gather(0, make(device, [3, 6], index));
        x.indexSelect(1, make(device, [5], index));
        if (dtype !== 'bool') x.scatterAdd(1, make(device, [4, 3], index), make(device, [4, 3], dtype));
        core.oneHot(make(device, [3], index), 4);
      }
      for (const arange of BOOLS)
        if (arange && dtype !== 'bool') core.arange(device, 0, 9, 2, dtype);
        else core.full(device, [9], 1, dtype);
    }
  },
  'windows of images'(device) {
    for (const dtype of floats(device)) {
      for (const { stride, padding, dilation, groups } of every({
        stride: [1, 2],
        padding: [0, 1],
        dilation: [1, 2],
        groups: [1, 2],
      })) {
        scope(() => {
          const x = leaf(device, [2, 4, 9, 8], dtype),
            w = leaf(device, [4, 4 / groups, 3, 3], dtype),
            b = leaf(device, [4], dtype);
          backward(core.conv2d(x, w, b, { stride, padding, dilation, groups }).sum());
          backward(
            core.fold(core.unfold(x, 3, { stride, padding, dilation }), [9, 8], 3, { stride, padding, dilation }).sum(),
          );
          const largest = core.maxPool2d(x, 3, { stride, padding });
          const [spread] = grad(largest.square().sum(), [x], { createGraph: true });
          backward(spread.sum());
          backward(core.avgPool2d(x, 3, { stride, padding }).sum());
        });
      }
    }
  },
  resampling(device) {
    for (const dtype of floats(device))
      for (const mode of ['nearest', 'bilinear'] as const)
        scope(() => {
          backward(core.interpolate(leaf(device, [2, 3, 5, 4], dtype), { scaleFactor: 2, mode }).sum());
        });
  },
  'group norm'(device) {
    for (const dtype of floats(device))
      for (const [height, width] of [
        [3, 5],
        [64, 64],
      ])
        for (const activation of [null, 'silu'] as const)
          scope(() => {
            const x = leaf(device, [2, 8, height, width], dtype),
              weight = leaf(device, [8]),
              bias = leaf(device, [8]);
            backward(groupNorm({ x, groups: 4, weight, bias, activation }).sum());
          });
  },
  'random numbers'(device) {
    const g = new core.Generator(device, 1);
    for (const dtype of floats(device)) {
      g.uniform([9], { dtype });
      g.normal([9], { dtype });
      g.bernoulli([9], 0.5, dtype);
    }
    for (const dtype of ['i32', 'u32'] as const) g.bernoulli([9], 0.5, dtype);
    g.randint([9], 0, 5);
    g.bits([9]);
    g.permutation(9);
    g.dispose();
  },
  'matrix products'(device) {
    // The epilogue is the same text in every configuration: all of them are met by one, and all configurations without. What is worth
    // measuring depends on the size: few rows or many, and a CPU's panels of f16 want a K that they take in one part.
    const products = (
      choices: { bias: boolean; activation: GemmActivation | null; accumulate: boolean },
      all: boolean,
    ): void => {
      for (const { dtype, sizes, ta, tb } of every({
        dtype: floats(device),
        sizes: [
          [16, 24, 520],
          [12, 20, 516],
          [7, 23, 515],
          [520, 520, 380],
          [515, 519, 379],
        ],
        ta: BOOLS,
        tb: BOOLS,
      })) {
        if (!all && (ta || tb)) continue;
        scope(() => {
          const [M, N, K] = sizes;
          const matrix = (rows: number, cols: number, transposed: boolean) => ({
            storage: make(device, [rows, cols], dtype).storage,
            offset: 0,
            rowStride: transposed ? rows : cols,
            transposed,
            dtype,
          });
          const spec = {
            M,
            N,
            K,
            a: matrix(M, K, ta),
            b: matrix(K, N, tb),
            c: matrix(M, N, false),
            ...(choices.bias && { bias: matrix(1, N, false) }),
            ...(choices.activation && { activation: choices.activation }),
            accumulate: choices.accumulate,
          };
          for (const config of all ? configs(device, spec) : [chooseConfig(device, spec)]) gemm(device, spec, config);
        });
      }
    };
    products({ bias: false, activation: null, accumulate: false }, true);
    for (const choices of every({ bias: BOOLS, activation: [null, 'silu', 'gelu'] as const, accumulate: BOOLS }))
      products(choices, false);
  },
  'what warms an adapter up'(device) {
    device.kernels.get(spinKernel, {});
  },
  'selective scan'(device) {
    for (const { dtype, states, gate, softplus, skip, bias, way } of every({
      dtype: floats(device),
      states: [1, 3, 4, 5, 8, 16, 17, 64, 128],
      gate: BOOLS,
      softplus: BOOLS,
      skip: BOOLS,
      bias: BOOLS,
      way: ['forward', 'reverse', 'both'] as const,
    })) {
      // Forms that don't depend on each other need not be met in all combinations.
      if (states !== 16 && (gate !== softplus || skip !== bias)) continue;
      scope(() => {
        const rows = (width: number): Tensor => leaf(device, [2, 9, width], dtype);
        const parameters = (): ScanParameters => ({
          u: rows(7),
          delta: rows(7),
          A: leaf(device, [7, states]),
          B: rows(states),
          C: rows(states),
          D: skip ? leaf(device, [7]) : null,
          deltaBias: bias ? leaf(device, [7]) : null,
        });
        const z = gate ? rows(7) : null;
        if (way === 'both')
          backward(
            selectiveScanBidirectional({
              forward: parameters(),
              reverse: parameters(),
              z,
              deltaSoftplus: softplus,
            }).sum(),
          );
        else
          backward(
            selectiveScan({
              ...parameters(),
              z,
              deltaSoftplus: softplus,
              direction: way,
              returnLastState: true,
            }).out.sum(),
          );
      });
    }
  },
  'causal convolution and the inner part of the mixer'(device) {
    for (const { dtype, width, bias, activation, direction } of every({
      dtype: floats(device),
      width: [2, 3, 4],
      bias: BOOLS,
      activation: [null, 'silu'] as const,
      direction: ['forward', 'reverse'] as const,
    })) {
      scope(() =>
        backward(
          causalConv1d({
            x: leaf(device, [2, 40, 7], dtype),
            weight: leaf(device, [7, width]),
            bias: bias ? leaf(device, [7]) : null,
            activation,
            direction,
          }).sum(),
        ),
      );
    }
    for (const { dtype, taps, bias, states } of every({
      dtype: floats(device),
      taps: [2, 3, 4],
      bias: BOOLS,
      states: [3, 16],
    })) {
      scope(() => {
        const direction = (): MambaDirection => ({
          convWeight: leaf(device, [8, taps]),
          convBias: bias ? leaf(device, [8]) : null,
          xProj: leaf(device, [2 + 2 * states, 8], dtype),
          dtProj: leaf(device, [8, 2], dtype),
          dtBias: leaf(device, [8]),
          aLog: leaf(device, [8, states]),
          D: leaf(device, [8]),
        });
        backward(
          mambaInner({ xz: leaf(device, [2, 40, 16], dtype), forward: direction(), reverse: direction() }).sum(),
        );
      });
    }
    for (const dtype of floats(device))
      scope(() =>
        backward(
          concatLinear(
            [leaf(device, [5, 7], dtype), leaf(device, [5, 9], dtype)],
            leaf(device, [3, 16], dtype),
            leaf(device, [3], dtype),
          ).sum(),
        ),
      );
  },
  'add + norm'(device) {
    for (const width of [7, 368]) {
      for (const config of [normConfigs(device, width)[0]]) {
        for (const { x, stream, norm, full, factors } of every({
          x: floats(device),
          stream: floats(device),
          norm: [addRmsNorm, addLayerNorm],
          full: BOOLS,
          factors: BOOLS,
        })) {
          scope(() => {
            const parameter = (): Tensor => leaf(device, [width], x);
            const args = {
              x: leaf(device, [3, 3, width], x),
              residual: leaf(device, [3, 3, width], stream),
              factors: factors ? make(device, [3]) : null,
              config,
            };
            if (!full) backward(norm(args).sum());
            else {
              const { y, residualOut } = norm({
                ...args,
                weight: parameter(),
                bias: parameter(),
                prenorm: true,
                residualInF32: true,
              });
              backward(core.add(y.sum().cast('f32'), residualOut.sum().cast('f32')));
            }
            backward(norm({ x: leaf(device, [9, width], x), weight: full ? parameter() : null, config }).sum());
          });
        }
      }
    }
  },
  'the model and its optimizer'(device) {
    for (const half of device.has('shader-f16') ? BOOLS : [false]) {
      using g = new core.Generator(device, 1);
      using model = scope(
        () => new Dis(g, disConfig({ imgSize: 8, patchSize: 2, embedDim: 24, depth: 2, channels: 3, numClasses: 5 })),
      );
      using optimizer = new FusedAdamW(model, { maxNorm: 1, emaDecay: 0.9, ...(half && { half: model.matrices() }) });
      scope(() => {
        const y = model.forward(make(device, [2, 3, 8, 8]), make(device, [2], 'i32'), make(device, [2], 'i32'), {
          generator: g,
        });
        backward(y.square().mean(), optimizer.backwardOptions());
        optimizer.step();
        model.eval().forwardWithCfg(make(device, [4, 3, 8, 8]), make(device, [4], 'i32'), make(device, [4], 'i32'), 2);
      });
    }
    for (const length of [7, 8])
      for (const ema of BOOLS) {
        const w = leaf(device, [length]);
        using model = new (class extends Module {
          readonly w = parameter(w);
        })();
        using optimizer = new FusedAdamW(model, { ...(ema && { emaDecay: 0.9, maxNorm: 1 }) });
        scope(() => backward(w.sum(), optimizer.backwardOptions()));
        optimizer.step();
      }
  },
  'the diffusion process'(device) {
    const model =
      (channels: number) =>
      (x: Tensor): Tensor =>
        core.concat(
          Array.from({ length: channels / 3 }, () => x),
          1,
        );
    for (const { meanType, varType, lossType, size } of every({
      meanType: ['epsilon', 'xStart', 'previousX'] as ModelMeanType[],
      varType: ['fixedSmall', 'fixedLarge', 'learned', 'learnedRange'] as ModelVarType[],
      lossType: ['mse', 'rescaledMse', 'kl', 'rescaledKl'] as LossType[],
      size: [3, 4],
    })) {
      const settings: DiffusionSettings = {
        ...diffusionSettings(),
        modelMeanType: meanType,
        modelVarType: varType,
        lossType,
      };
      const process = new GaussianDiffusion(device, settings);
      scope(() => {
        const [x, noise] = [0, 1].map(() => make(device, [2, 3, size, size]));
        const t = make(device, [2], 'i32'),
          scale = leaf(device, [1]);
        const predict = model(varType.startsWith('learned') ? 6 : 3);
        const losses = process.trainingLosses((y) => predict(y).mul(scale), x, t, { noise });
        backward(losses.loss.sum());
        if (lossType !== 'mse') return;
        process.pSample(predict, x, t, { noise });
        process.ddimSample(predict, x, t, { noise, eta: 0.5 });
        process.ddimReverseSample(predict, x, t);
        process.qMeanVariance(x, t);
        process.qPosteriorMeanVariance(x, noise, t);
        process.priorBpd(x);
      });
      process.dispose();
    }
    createDiffusion(device).dispose();
  },
};

const unit = (size: number): GPUSubgroupMatrixConfig => ({
  componentType: 'f16',
  resultComponentType: 'f32',
  M: size,
  N: size,
  K: size,
});
/** Options of the device, and what the null adapter, which leaves the size of a subgroup open, is made to say of itself. */
const environments: Record<
  string,
  [
    options: core.DeviceOptions,
    says: Partial<Pick<Device, 'adapter' | 'subgroupMinSize' | 'subgroupMaxSize' | 'subgroupMatrixConfigs'>>,
  ]
> = {
  'default limits and all features': [{ defaultLimits: true }, {}],
  'default limits and no feature': [
    { defaultLimits: true, without: ['shader-f16', 'subgroups', 'timestamp-query'] },
    {},
  ],
  'default limits and subgroups of 8': [
    { defaultLimits: true, without: ['shader-f16'] },
    { subgroupMinSize: 8, subgroupMaxSize: 8 },
  ],
  'default limits and a CPU with subgroups of 8': [
    { defaultLimits: true },
    {
      subgroupMinSize: 8,
      subgroupMaxSize: 8,
      adapter: { vendor: 'mesa', architecture: '', device: '', description: '', software: true, backend: 'null' },
    },
  ],
  "Dawn's toggles and a matrix unit of 16": [
    { tier: 'fast' },
    { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [unit(16)] },
  ],
  "Dawn's toggles and a matrix unit of 8": [
    { tier: 'fast', defaultLimits: true },
    { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [unit(8)] },
  ],
};

/** Operations whose programs are written from expressions alone. */
const anywhere = new Set(['elementwise operations', 'operations with their derivatives']);
const [first] = Object.keys(environments);
const compiled = new Set<string>();

for (const [environment, [options, says]] of Object.entries(environments)) {
  test(`everything compiles under ${environment}`, async ({ open }) => {
    const device = Object.assign(await open({ backend: 'null', ...options }), says);
    for (const [name, run] of Object.entries(workloads)) {
      // Texts that look at no limit and no feature are the same everywhere, but for coarsening on a CPU.
      if (anywhere.has(name) && environment !== first && !device.adapter.software) continue;
      try {
        scope(() => {
          run(device);
        });
        await device.synchronize();
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
      }
      device.trim();
    }
    for (const name of device.kernels.kernelNames) compiled.add(name);
  });
}

test('every kernel that is defined was compiled', () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const defined = ['core', 'kernels', 'nn', 'models'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) =>
        Array.from(
          readFileSync(join(root, folder, file), 'utf8').matchAll(/defineKernel(?:<[^()]*?>)?\(\s*(['`])(.*?)\1/g),
          (match) => match[2],
        ),
      ),
  );
  assert.ok(defined.length > 25, `${defined.length} kernels found`);
  // Names with a part that is filled in are matched by the rest.
  const missing = defined.filter((name) => {
    const pattern = new RegExp(`^${name.replace(/[.]/g, '\\.').replace(/\$\{.*?\}/g, '.+')}$`);
    return ![...compiled].some((known) => pattern.test(known));
  });
  assert.equal(missing, [], 'kernels that nothing here compiles; give them a workload');
});

test.run();
