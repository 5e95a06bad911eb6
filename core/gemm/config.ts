// Which configurations can compute a product on an adapter, and which one to take unmeasured.

import type { GPUSubgroupMatrixConfig } from '../gpu/adapter.ts';
import type { KernelEnv } from '../gpu/kernel.ts';
import { matrixBytes } from './matrix.ts';
import { panelSpan } from './panel.ts';
import { operandForms, type GemmConfig, type GemmProblem } from './spec.ts';

/** What the choice looks at: the adapter's abilities, and whether it computes on the CPU. A `Device` is one. */
export interface GemmAdapter extends KernelEnv {
  readonly adapter: { readonly software: boolean; readonly vendor?: string };
  readonly subgroupMatrixConfigs: readonly GPUSubgroupMatrixConfig[];
}

/** Steps of k whose rows of b a panel keeps. */
const PANEL_DEPTH = 384;

const register = (rows: number, quads: number, x: number, y: number): GemmConfig => ({
  form: 'register',
  rows,
  quads,
  x,
  y,
  depth: 4,
  splits: 1,
});
const subgroup = (rows: number, quads: number, size: number): GemmConfig => ({
  form: 'subgroup',
  rows,
  quads,
  x: size,
  y: 1,
  depth: 4,
  splits: 1,
});
const panel = (rows: number, quads: number, size: number): GemmConfig => ({
  form: 'panel',
  rows,
  quads,
  x: size,
  y: 1,
  depth: PANEL_DEPTH,
  splits: 1,
});
const tile = (rows: number, quads: number, x: number, y: number, depth = 16): GemmConfig => ({
  form: 'tile',
  rows,
  quads,
  x,
  y,
  depth,
  splits: 1,
});
const vector = (rows: number, quads: number, x: number, y: number): GemmConfig => ({
  form: 'vector',
  rows,
  quads,
  x,
  y,
  depth: 4,
  splits: 1,
});

/**
 * From 128 × 128 to 32 × 32 elements of c, and 64 × 32 for few columns: all within the 16 KiB and 256 invocations that
 * WebGPU guarantees.
 */
const TILES = [
  tile(16, 2, 16, 8),
  tile(8, 2, 8, 16),
  tile(8, 2, 8, 8),
  tile(4, 1, 8, 16, 32),
  tile(4, 1, 8, 8),
] as const;

/** The same sizes with more invocations that own less: for adapters with few registers. */
const LIGHT_TILES = [tile(8, 2, 16, 16), tile(4, 1, 16, 16)] as const;

type Unit = NonNullable<GemmConfig['unit']>;

/** 128 × 128, 64 × 128 and 64 × 64 elements of c by four subgroups. */
const matrices = (unit: Unit): GemmConfig[] =>
  [
    [64, 16],
    [32, 16],
    [32, 8],
  ].map(([rows, quads]) => ({ form: 'matrix', rows, quads, x: 2, y: 2, depth: 32, splits: 1, unit }));

/** Workgroups that keep a large GPU busy. */
const ENOUGH = 128;

/** The most parts that K is cut into. */
export const MOST_PARTS = 64;

/** The subgroup size, where it is fixed and between 4 and 32; otherwise 0. */
function fixedSubgroup(device: KernelEnv): number {
  const size = device.subgroupMinSize;
  return device.has('subgroups') && size === device.subgroupMaxSize && size >= 4 && size <= 32 ? size : 0;
}

/** The configurations on the matrix unit: it takes f16, and its tiles must fit into the adapter's workgroups. */
function matrixFamily(device: GemmAdapter, { a, b }: GemmProblem): GemmConfig[] {
  const size = fixedSubgroup(device);
  if (!size || !device.has('subgroup-matrix') || a.dtype !== 'f16' || b.dtype !== 'f16') return [];
  const { limits } = device;
  const units = device.subgroupMatrixConfigs.filter(
    (u) =>
      u.componentType === 'f16' &&
      u.resultComponentType === 'f32' &&
      [8, 16].includes(u.M) &&
      [8, 16].includes(u.N) &&
      [8, 16, 32].includes(u.K),
  );
  if (!units.length) return [];
  const { M, N, K } = units.reduce((best, u) => (u.M * u.N * u.K > best.M * best.N * best.K ? u : best));
  return matrices([M, N, K]).filter(
    (c) =>
      matrixBytes(c) <= limits.maxComputeWorkgroupStorageSize &&
      size * c.x * c.y <= limits.maxComputeInvocationsPerWorkgroup,
  );
}

/** Workgroups of a configuration that isn't cut. */
function tilesOf({ rows, quads, x, y }: GemmConfig, { M, N, batch = 1 }: GemmProblem): number {
  return Math.ceil(M / (rows * y)) * Math.ceil(N / (4 * quads * x)) * batch;
}

/** Whether K may be computed in parts: a panel adds up its own parts, and a transposed output is stored whole. */
export const cuttable = ({ form, transposeOutput }: Pick<GemmConfig, 'form' | 'transposeOutput'>): boolean =>
  form !== 'panel' && !transposeOutput;

/** The same configuration, with K cut into parts if there are too few workgroups. No part is shorter than 128. */
function cut(device: GemmAdapter, problem: GemmProblem, config: GemmConfig): GemmConfig {
  const tiles = tilesOf(config, problem),
    few = device.adapter.software ? 8 : ENOUGH;
  if (tiles >= few) return config;
  return {
    ...config,
    splits: Math.max(1, Math.min(Math.floor((2 * few) / tiles), Math.floor(problem.K / 128), MOST_PARTS)),
  };
}

/** The most rows whose program fits into a CPU's instruction cache. `vec`: whether operands are read in vec4. */
const mostRows = (vec: boolean): number => (vec ? 40 : 32);

/** On a CPU: panels, and for few rows subgroups, whose rows divide M evenly or, with a transposed output, N. */
function cpuFamily({ adapter }: GemmAdapter, problem: GemmProblem, size: number): GemmConfig[] {
  const { a, b, c } = operandForms(problem);
  const most = mostRows(b.vec && c.vec && (a.vec || !a.transposed));
  const mostTransposed = mostRows(a.vec && (b.vec || b.transposed));
  const even = (n: number, most: number, step: number): number => step * Math.ceil(n / Math.ceil(n / most) / step);
  const rows = [most, 24, 8, even(problem.M, most, a.transposed && a.vec ? 4 : 1)];
  const list = [...new Set(rows)]
    .map((n) => subgroup(n, 1, size))
    .concat({
      ...subgroup(even(problem.N, mostTransposed, b.vec && !b.transposed ? 4 : 1), 1, size),
      transposeOutput: true,
    });
  // A panel adds up the parts of a long K in c. Direct3D's compiler was never tried with that much private memory.
  const apart = adapter.vendor === 'microsoft' || (problem.c.dtype === 'f16' && problem.K > PANEL_DEPTH);
  const panels = apart ? [] : [panel(24, 2, size), panel(32, 1, size)];
  return [...list, ...panels, ...panels.map((c) => ({ ...c, transposeOutput: true }))];
}

/**
 * Estimated time of a product on a CPU, in multiply-adds of a subgroup for each step of k. A load costs as much as most
 * of the arithmetic. One of two cores may have nothing to do. Compiling takes Mesa up to a second: its cost is spread
 * over 20,000 products, as many of a kind as a few thousand steps of a small model have.
 */
function cpuCost({ M, N, K, batch = 1 }: GemmProblem, config: GemmConfig): number {
  const { form, rows, quads, x: size, transposeOutput } = config;
  const [down, across] = transposeOutput ? [N, M] : [M, N];
  const panels = Math.ceil(across / (4 * quads * size)) * batch,
    tiles = Math.ceil(down / rows) * panels,
    ofA = 7.5 * Math.ceil(rows / size);
  const groups = form === 'panel' ? Math.ceil(down / panelSpan({ M: down, N: across, batch }, config)) * panels : tiles;
  const work =
    form === 'panel' ? tiles * (rows * quads + ofA + 7 * quads) + groups * 46 * quads : tiles * (rows + ofA + 35);
  const compiling = (form === 'panel' ? 1600 : 1000) * rows * quads;
  return (work * 2 * Math.ceil(groups / 2)) / groups + compiling / K;
}

/** Every configuration that computes a product of these sizes on this adapter with K in one piece. */
export function family(device: GemmAdapter, problem: GemmProblem): GemmConfig[] {
  const { M, N } = problem;
  const list = [register(1, 1, 64, 1), register(4, 1, 8, 8), register(4, 2, 8, 8), register(8, 1, 8, 8)];
  const size = fixedSubgroup(device);
  if (size)
    list.push(
      ...(device.adapter.software
        ? cpuFamily(device, problem, size)
        : [8, 16, 24, 32].filter((rows) => rows % size === 0).map((rows) => subgroup(rows, 1, size))),
    );
  // On a CPU, workgroup memory with barriers is many times slower than registers.
  if (!device.adapter.software) list.push(...TILES, ...LIGHT_TILES, ...matrixFamily(device, problem));
  if (M <= 16 || N <= 16)
    list.push(vector(1, 1, 16, 4), vector(1, 1, 64, 1), vector(4, 1, 16, 4), vector(4, 0.25, 16, 4));
  return list;
}

/** Every configuration that is worth measuring. The first is the heuristic's choice. */
export function configs(device: GemmAdapter, problem: GemmProblem): GemmConfig[] {
  const chosen = chooseConfig(device, problem);
  // Every candidate is compiled before it is measured. On a CPU, those are left out whose estimate is more than twice
  // that of the chosen one.
  const slow = (c: GemmConfig): boolean =>
    device.adapter.software &&
    (c.form === 'subgroup' || c.form === 'panel') &&
    cpuCost(problem, c) > 2 * cpuCost(problem, chosen);
  const whole = family(device, problem).filter((c) => !slow(c));
  const parts = whole
    .filter((c) => c.form !== 'vector' && cuttable(c))
    .map((c) => cut(device, problem, c))
    .filter((c) => c.splits > 1);
  return [chosen, ...[...whole, ...parts].filter((c) => JSON.stringify(c) !== JSON.stringify(chosen))];
}

/** The configuration to take unmeasured. */
export function chooseConfig(device: GemmAdapter, problem: GemmProblem): GemmConfig {
  const { M, N, a, b } = problem;
  if (device.adapter.software) {
    const size = fixedSubgroup(device);
    if (size) {
      const cost = (c: GemmConfig): number => cpuCost(problem, c);
      return cpuFamily(device, problem, size).reduce((best, c) => (cost(c) < cost(best) ? c : best));
    }
    return M <= 2 ? register(1, 1, 64, 1) : register(4, 1, 8, 8);
  }
  // For few results, lanes share K, if both operands lie along it.
  if (M <= 4 && b.transposed) return vector(M === 1 ? 1 : 4, 1, 16, 4);
  if (N === 1 && !a.transposed) return vector(4, 0.25, 16, 4);
  if (M <= 4) return cut(device, problem, register(M === 1 ? 1 : 4, 1, 64, 1));
  return chooseTile(device, problem);
}

/** The largest tile that wastes little at the edges and gives enough workgroups, with K cut if need be. */
function chooseTile(device: GemmAdapter, problem: GemmProblem): GemmConfig {
  const { M, N, batch = 1 } = problem;
  const units = matrixFamily(device, problem);
  const sizes = (units.length ? units : TILES).map((c) => cut(device, problem, c));
  const waste = (c: GemmConfig): number => (tilesOf(c, problem) * c.rows * c.y * 4 * c.quads * c.x) / (M * N * batch);
  return (
    sizes.find((c) => waste(c) <= 1.35 && tilesOf(c, problem) * c.splits >= ENOUGH) ??
    sizes.reduce((best, c) => (waste(c) < 0.8 * waste(best) ? c : best))
  );
}

/** The configurations that a product of images comes in, the one to take unmeasured first. */
export function imageConfigs(device: GemmAdapter, problem: GemmProblem): GemmConfig[] {
  const { M } = problem;
  const size = fixedSubgroup(device);
  const software = device.adapter.software;
  const panels =
    software && size ? cpuFamily(device, problem, size).filter((q) => q.form === 'panel' && !q.transposeOutput) : [];
  const registers = [register(4, 1, 8, 8), register(4, 2, 8, 8), register(8, 1, 8, 8), register(1, 1, 64, 1)];
  const whole = [
    ...panels,
    ...registers,
    ...(software ? [] : [...TILES, ...LIGHT_TILES, ...matrixFamily(device, problem)]),
  ];
  const chosen =
    M <= 2
      ? cut(device, problem, register(1, 1, 64, 1))
      : software
        ? (panels[0] ?? cut(device, problem, registers[0]))
        : chooseTile(device, problem);
  if (panels.length)
    return [panels.reduce((best, q) => (cpuCost(problem, q) < cpuCost(problem, best) ? q : best)), ...whole];
  const all = whole.flatMap((q) => [q, ...(q.form === 'panel' ? [] : [cut(device, problem, q)])]);
  const seen = new Set<string>();
  return [chosen, ...all].filter((q) => {
    const text = JSON.stringify(q);
    return !seen.has(text) && seen.add(text);
  });
}
