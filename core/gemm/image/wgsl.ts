// WGSL of products whose operands are images: where pixels lie, by their number in the batch, and what a tap of the
// window reads.
//
// A pixel of the result has a number q = (sample, row, column). Its window begins at a place of the image; a tap adds an
// offset to it. So an address is a sum of two numbers, one found once a column, the other once a step of K.

import type { KernelParam } from '../../gpu/kernel.ts';
import type { ImageForm, ProblemForm } from '../spec.ts';

/**
 * After the parameters of every product. `grid`: pixels of a sample of the result, in rows of `gridWidth`. `sample`,
 * `aSample`, `outSample`: elements from a sample to the next. `width`, `height`: of the image. Origin, stride and step,
 * which may be negative: of the window's first tap, from window to window, from tap to tap. `channels`: from tap to tap
 * along K; `inputs` of them are the image's, the others 0.
 */
export const IMAGE_PARAMS: readonly KernelParam[] = [
  'biasBatch',
  'grid',
  'gridWidth',
  'gridHeight',
  'aSample',
  'sample',
  'height',
  'width',
  'strideY',
  'strideX',
  'originY',
  'originX',
  'stepY',
  'stepX',
  'channels',
  'inputs',
  'outSample',
  'outRow',
  'outColumn',
].map((name) => ({ name, type: 'u32' }));

/** Functions that kernels read operands with. */
export function imageDeclarations({ image, b }: ProblemForm): string {
  if (!image) return '';
  const { gives, kernel, tapsOutside, padded } = image;
  const [taps, across] = [kernel[0] * kernel[1], kernel[1]];
  const channelAndTap = tapsOutside
    ? 'let t = k / p.channels; let c = k - t * p.channels;'
    : `let c = k / ${taps}u; let t = k % ${taps}u;`;
  return `// Sample, row and column of a pixel by its number, and of the next pixel.
fn locate(q: u32) -> vec3u {
  let s = q / p.grid;
  let r = q - s * p.grid;
  let i = r / p.gridWidth;
  return vec3u(s, i, r - i * p.gridWidth);
}
fn after(at: vec3u) -> vec3u {
  if (at.z + 1u < p.gridWidth) { return vec3u(at.xy, at.z + 1u); }
  if (at.y + 1u < p.gridHeight) { return vec3u(at.x, at.y + 1u, 0u); }
  return vec3u(at.x + 1u, 0u, 0u);
}
// Address, row and column of the window's beginning.
fn placeOf(at: vec3u, base: u32) -> vec3i {
  let y = i32(at.y * p.strideY + p.originY);
  let x = i32(at.z * p.strideX + p.originX);
  return vec3i(i32(base + at.x * p.sample) + y * i32(p.width) + x, y, x);
}
// What a tap adds to these.
fn offsetOf(c: u32, u: u32, v: u32) -> vec3i {
  let y = i32(u * p.stepY);
  let x = i32(v * p.stepX);
  return vec3i(i32(c * p.bStride) + y * i32(p.width) + x, y, x);
}
fn within(place: vec3i, tap: vec3i) -> bool {
  return ${padded ? 'u32(place.y + tap.y) < p.height && u32(place.z + tap.z) < p.width' : 'true'};
}
// Of pixels that lie side by side within a sample.
fn runAt(q: u32, sample: u32) -> u32 { let s = q / p.grid; return s * sample + (q - s * p.grid); }
${
  gives === 'pixels'
    ? `fn tapOf(k: u32) -> vec3i { ${channelAndTap} return offsetOf(c, t / ${across}u, t % ${across}u); }
${
  b.vec || b.wide
    ? ''
    : `fn pixel(place: vec3i, tap: vec3i) -> ${b.dtype} {
  return select(${b.dtype}(), B[u32(place.x + tap.x)], within(place, tap));
}`
}`
    : ''
}`;
}

/** Like `storing` of wgsl.ts, for pixels: an address is that of a column, from `columnsAt`, and a row's. */
export function storePixels({ c, accumulate }: ProblemForm, { dense }: ImageForm): string {
  const four = (one: (component: string, i: number) => string): string => `vec4f(${[...'xyzw'].map(one).join(', ')})`;
  const row = 'min(row, p.M - 1u) * p.cStride';
  const old = c.vec ? `vec4f(C[(at.x + ${row}) >> 2u])` : four((x) => `f32(C[at.${x} + ${row}])`);
  return `fn columnAt(base: u32, q: u32) -> u32 {
  ${
    dense
      ? 'return base + runAt(min(q, p.N - 1u), p.outSample);'
      : `let at = locate(min(q, p.N - 1u));
  return base + at.x * p.outSample + at.y * p.outRow + at.z * p.outColumn;`
  }
}
fn columnsAt(base: u32, col: u32) -> vec4u {
  ${
    c.vec
      ? 'return vec4u(columnAt(base, col), 0u, 0u, 0u);'
      : 'return vec4u(columnAt(base, col), columnAt(base, col + 1u), columnAt(base, col + 2u), columnAt(base, col + 3u));'
  }
}
fn old4(at: vec4u, row: u32, col: u32) -> vec4f { return ${accumulate ? old : 'vec4f()'}; }
fn store4(at: vec4u, row: u32, col: u32, v: vec4f) {
  if (row >= p.M || col >= p.N) { return; }
  let result = activate(v);
  ${
    c.vec
      ? `C[(at.x + row * p.cStride) >> 2u] = vec4<${c.dtype}>(result);`
      : `C[at.x + row * p.cStride] = ${c.dtype}(result.x);
  ${[1, 2, 3]
    .map((i) => {
      const x = 'xyzw'[i];
      return `if (col + ${i}u < p.N) { C[at.${x} + row * p.cStride] = ${c.dtype}(result.${x}); }`;
    })
    .join('\n  ')}`
  }
}`;
}

/** Where the operands of a batch item begin. The batch goes through groups, or, of weights, through groups' taps. */
export function imageBases({ split }: ProblemForm, { gives, kernel }: ImageForm): string {
  const [taps, across] = [kernel[0] * kernel[1], kernel[1]];
  const weights = gives === 'weights';
  return `  let item = wid.z${split ? ' / p.splits' : ''};
  let group = item${weights ? ` / ${taps}u` : ''};
  let aBase = p.aOffset + group * p.aBatch;
  let bBase = p.bOffset + group * p.bBatch;
  let cBase = p.cOffset + ${split ? 'wid.z' : 'item'} * p.cBatch;
  biasBase = p.biasOffset + group * p.biasBatch;
  ${weights ? `let tap = offsetOf(0u, item % ${taps}u / ${across}u, item % ${across}u);` : ''}`;
}
