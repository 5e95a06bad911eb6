// The kernels of group norm: statistics of planes, and passes over them.
//
// A plane is a channel of a sample. Each kernel goes over planes, so that a group of any size has many workgroups; what a
// group needs is put together from its planes' numbers, in their order. On a GPU a workgroup shares a plane; on a CPU,
// where barriers cost more than the plane, an invocation has it alone.

import { defineKernel, mathName, wgslMath } from '../../core/kit.ts';
import type { FloatDType } from '../../core/index.ts';

/** What the kernels are compiled for. */
export interface GroupNormVariant {
  readonly type: FloatDType;
  readonly affine: FloatDType | null;
  readonly silu: boolean;
  /** Invocations that share a plane: 1, or a workgroup. */
  readonly team: number;
}

/** Elements of a plane that an invocation adds up before it adds to its sum, so that long sums keep their digits. */
const BLOCK = 64;

/** Elements of a plane that a workgroup, or an invocation alone, has in the passes that write. */
export const chunkOf = (team: number): number => (team === 1 ? 2048 : 16 * team);

const PARAMS = ['planes', 'plane', 'perGroup', 'channels', 'chunks'].map((name) => ({ name, type: 'u32' as const }));

const kernelOf = ({ type, affine, team }: GroupNormVariant) => ({
  params: [...PARAMS, { name: 'eps', type: 'f32' as const }],
  workgroupSize: [team === 1 ? 64 : team] as const,
  workgroupBytes: team === 1 ? 0 : team * 4,
  enable: type === 'f16' || affine === 'f16' ? (['f16'] as const) : [],
});

/** Who works on what: `item` and this invocation's first element and step. */
const place = (team: number, items: string): string => `  let item = ${team === 1 ? 'flat' : 'wid.y * nwg.x + wid.x'};
  if (item >= ${items}) { return; }
  let own = ${team === 1 ? '0u' : 'li'};`;

/** A sum over the elements of a plane; the same for all that share it. */
const total = (team: number, name: string, element: string): string => `
  var ${name} = 0.0;
  for (var begin = own; begin < p.plane; begin += ${BLOCK * team}u) {
    var part = 0.0;
    for (var i = begin; i < min(begin + ${BLOCK * team}u, p.plane); i += ${team}u) { part += ${element}; }
    ${name} += part;
  }
  ${team === 1 ? '' : `${name} = shared_(${name}, li);`}`;

const shared = (team: number): string =>
  team === 1
    ? ''
    : `var<workgroup> parts: array<f32, ${team}>;
fn shared_(value: f32, li: u32) -> f32 {
  workgroupBarrier();
  parts[li] = value;
  for (var half = ${team / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (li < half) { parts[li] += parts[li + half]; }
  }
  workgroupBarrier();
  return parts[0];
}`;

/** Mean and sum of squared deviations of each plane. */
export const planeStatistics = defineKernel<GroupNormVariant>('groupNorm.statistics', (v) => ({
  ...kernelOf(v),
  bindings: [
    { name: 'x', type: `array<${v.type}>`, access: 'read' },
    { name: 'statistics', type: 'array<vec2f>', access: 'write' },
  ],
  declarations: shared(v.team),
  body: `${place(v.team, 'p.planes')}
  let base = item * p.plane;
${total(v.team, 'sum', 'f32(x[base + i])')}
  let mean = sum / f32(p.plane);
${total(v.team, 'squares', '(f32(x[base + i]) - mean) * (f32(x[base + i]) - mean)')}
  ${v.team === 1 ? '' : 'if (li == 0u) '}{ statistics[item] = vec2f(mean, squares); }`,
}));

/** Mean and 1/deviation of a plane's group, from the statistics of its planes. */
const groupStatistics = `fn groupOf(plane: u32) -> vec2f {
  let first = plane / p.perGroup * p.perGroup;
  var mean = 0.0;
  for (var c = 0u; c < p.perGroup; c++) { mean += statistics[first + c].x; }
  mean /= f32(p.perGroup);
  var squares = 0.0;
  for (var c = 0u; c < p.perGroup; c++) {
    let one = statistics[first + c];
    squares += one.y + f32(p.plane) * (one.x - mean) * (one.x - mean);
  }
  return vec2f(mean, inverseSqrt(squares / f32(p.plane * p.perGroup) + p.eps));
}`;

const affineOf = ({ affine }: GroupNormVariant): string =>
  affine
    ? 'let scale = f32(weight[plane % p.channels]); let shift = f32(bias[plane % p.channels]);'
    : 'let scale = 1.0; let shift = 0.0;';

const affineBindings = ({ affine }: GroupNormVariant) =>
  affine
    ? ([
        { name: 'weight', type: `array<${affine}>`, access: 'read' },
        { name: 'bias', type: `array<${affine}>`, access: 'read' },
      ] as const)
    : [];

const sigmoid = ({ silu }: GroupNormVariant): string => (silu ? wgslMath(['sigmoid']) : '');

/** y of each element. */
export const normalise = defineKernel<GroupNormVariant>('groupNorm', (v) => ({
  ...kernelOf(v),
  bindings: [
    { name: 'x', type: `array<${v.type}>`, access: 'read' },
    { name: 'statistics', type: 'array<vec2f>', access: 'read' },
    { name: 'y', type: `array<${v.type}>`, access: 'write' },
    ...affineBindings(v),
  ],
  declarations: `${sigmoid(v)}\n${groupStatistics}`,
  body: `${place(v.team, 'p.planes * p.chunks')}
  let plane = item / p.chunks;
  let begin = item % p.chunks * ${chunkOf(v.team)}u;
  let group = groupOf(plane);
  ${affineOf(v)}
  for (var i = begin + own; i < min(begin + ${chunkOf(v.team)}u, p.plane); i += ${v.team}u) {
    let z = (f32(x[plane * p.plane + i]) - group.x) * group.y * scale + shift;
    y[plane * p.plane + i] = ${v.type}(${v.silu ? `z * ${mathName('sigmoid')}(z)` : 'z'});
  }`,
}));

/** The gradient before the activation. */
const gradient = ({ silu }: GroupNormVariant): string =>
  silu
    ? `fn before(g: f32, z: f32) -> f32 { let s = ${mathName('sigmoid')}(z); return g * s * (1.0 + z * (1.0 - s)); }`
    : 'fn before(g: f32, z: f32) -> f32 { return g; }';

/** Sums of a plane: of the gradient before the activation, and of its product with the normalised x. */
export const planeSums = defineKernel<GroupNormVariant>('groupNorm.sums', (v) => {
  const normalised = '(f32(x[base + i]) - group.x) * group.y';
  const g = `before(f32(g[base + i]), ${normalised} * scale + shift)`;
  return {
    ...kernelOf(v),
    bindings: [
      { name: 'x', type: `array<${v.type}>`, access: 'read' },
      { name: 'statistics', type: 'array<vec2f>', access: 'read' },
      { name: 'g', type: `array<${v.type}>`, access: 'read' },
      { name: 'sums', type: 'array<vec2f>', access: 'write' },
      ...affineBindings(v),
    ],
    declarations: `${sigmoid(v)}\n${groupStatistics}\n${gradient(v)}\n${shared(v.team)}`,
    body: `${place(v.team, 'p.planes')}
  let plane = item;
  let base = plane * p.plane;
  let group = groupOf(plane);
  ${affineOf(v)}
${total(v.team, 'sum', g)}
${total(v.team, 'weighted', `${g} * ${normalised}`)}
  ${v.team === 1 ? '' : 'if (li == 0u) '}{ sums[plane] = vec2f(sum, weighted); }`,
  };
});

/** The gradient of x. */
export const normaliseBackward = defineKernel<GroupNormVariant>('groupNorm.backward', (v) => ({
  ...kernelOf(v),
  bindings: [
    { name: 'x', type: `array<${v.type}>`, access: 'read' },
    { name: 'statistics', type: 'array<vec2f>', access: 'read' },
    { name: 'g', type: `array<${v.type}>`, access: 'read' },
    { name: 'sums', type: 'array<vec2f>', access: 'read' },
    { name: 'dx', type: `array<${v.type}>`, access: 'write' },
    ...affineBindings(v),
  ],
  declarations: `${sigmoid(v)}\n${groupStatistics}\n${gradient(v)}`,
  body: `${place(v.team, 'p.planes * p.chunks')}
  let plane = item / p.chunks;
  let begin = item % p.chunks * ${chunkOf(v.team)}u;
  let group = groupOf(plane);
  ${affineOf(v)}
  let first = plane / p.perGroup * p.perGroup;
  var means = vec2f();
  for (var c = first; c < first + p.perGroup; c++) {
    means += sums[c]${v.affine ? ' * f32(weight[c % p.channels])' : ''};
  }
  means /= f32(p.perGroup * p.plane);
  for (var i = begin + own; i < min(begin + ${chunkOf(v.team)}u, p.plane); i += ${v.team}u) {
    let at = plane * p.plane + i;
    let normalised = (f32(x[at]) - group.x) * group.y;
    let own_ = before(f32(g[at]), normalised * scale + shift) * scale;
    dx[at] = ${v.type}(group.y * (own_ - means.x - normalised * means.y));
  }`,
}));
