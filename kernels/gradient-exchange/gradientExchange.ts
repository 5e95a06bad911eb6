// What several GPUs do to gradients that travel between them: to the type of the wire, and the sum of what every rank
// sent, in the order of ranks, so that all ranks get the same bits. f16 on the wire is two numbers a word, rounded to
// nearest; what it can't hold becomes infinite, which the loss scale takes for an overflow. Sums are f32.

import type { Device } from '../../core/index.ts';
import { defineKernel, grid1d, type Operand } from '../../core/kit.ts';

/** Type in which gradients travel. */
export type WireType = 'f32' | 'f16';

/** Bytes of an element on the wire. */
export function wireBytes(type: WireType): number {
  return type === 'f16' ? 2 : 4;
}

const GROUP = 64;

const WIRE_WGSL = `
fn finite16(v: vec4f) -> vec2u {
  let bits = bitcast<vec4u>(v);
  let over = (bits & vec4u(0x7fffffffu)) > vec4u(bitcast<u32>(65504f));
  let safe = select(v, vec4f(), over);
  let infinite = select(vec4u(), ((bits >> vec4u(16u)) & vec4u(0x8000u)) | vec4u(0x7c00u), over);
  return vec2u(pack2x16float(safe.xy), pack2x16float(safe.zw)) | (infinite.xz | (infinite.yw << vec2u(16u)));
}
fn widen(w: vec2u) -> vec4f {
  let halves = vec4u(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u);
  let over = (halves & vec4u(0x7c00u)) == vec4u(0x7c00u);
  let safe = vec4f(unpack2x16float(w.x), unpack2x16float(w.y));
  return bitcast<vec4f>(select(bitcast<vec4u>(safe), ((halves & vec4u(0x8000u)) << vec4u(16u)) | vec4u(0x7f800000u), over));
}`;

/** Operands: arena, packed. Parameters: count (vectors of 4), first (vector of the arena). */
const packKernel = defineKernel<object>('packGradients', () => ({
  bindings: [
    { name: 'arena', type: 'array<vec4f>', access: 'read' },
    { name: 'packed', type: 'array<vec2u>', access: 'write' },
  ],
  params: [
    { name: 'count', type: 'u32' },
    { name: 'first', type: 'u32' },
  ],
  workgroupSize: [GROUP],
  declarations: WIRE_WGSL,
  body: `if (flat < p.count) { packed[flat] = finite16(arena[p.first + flat]); }`,
}));

/** Writes `count` elements of a flat f32 arena from element `first` on to `out` as f16. Both are multiples of 4. */
export function packGradients(
  device: Device,
  arena: Operand,
  out: Operand,
  { first, count }: { readonly first: number; readonly count: number },
): void {
  out.storage.version++;
  device.run(packKernel, {}, [arena, out], [count / 4, first / 4], grid1d(count / 4, GROUP));
}

/**
 * Operands: received (the other ranks' parts, in order), arena. Parameters: count, first, end (vectors), rank, ranks.
 */
const sumKernel = defineKernel<{ wire: WireType; copy: boolean }>('sumGradients', ({ wire, copy }) => {
  const half = wire === 'f16';
  const value = (at: string): string => (half ? `widen(received[${at}])` : `received[${at}]`);
  return {
    bindings: [
      { name: 'received', type: `array<${half ? 'vec2u' : 'vec4f'}>`, access: 'read' },
      { name: 'arena', type: 'array<vec4f>', access: 'write' },
    ],
    params: [
      { name: 'count', type: 'u32' },
      { name: 'first', type: 'u32' },
      { name: 'end', type: 'u32' },
      { name: 'rank', type: 'u32' },
      { name: 'ranks', type: 'u32' },
    ],
    workgroupSize: [GROUP],
    declarations: half ? WIRE_WGSL : '',
    body: copy
      ? `
if (flat >= p.count) { return; }
let own = p.rank;
for (var r = 0u; r < p.ranks; r++) {
  let to = p.first + r * p.count + flat;
  if (to >= p.end) { return; }
  if (r != own) { arena[to] = ${value('(r - select(0u, 1u, r > own)) * p.count + flat')}; }
  ${half ? 'else { arena[to] = widen(finite16(arena[to])); }' : ''}
}`
      : `
if (flat >= p.count || p.first + flat >= p.end) { return; }
let own = ${half ? 'widen(finite16(arena[p.first + flat]))' : 'arena[p.first + flat]'};
var sum = vec4f();
for (var r = 0u; r < p.ranks; r++) {
  if (r == p.rank) { sum += own; } else { sum += ${value('(r - select(0u, 1u, r > p.rank)) * p.count + flat')}; }
}
arena[p.first + flat] = sum;`,
  };
});

/** Gradients of other ranks, and where in the arena they belong. */
export interface ReceivedGradients {
  /** What the other ranks sent, `count` elements each, in the order of ranks. */
  readonly received: Operand;
  readonly wire: WireType;
  /** First element in the arena, and elements of a rank's part; none is written from `end` on. Multiples of 4. */
  readonly first: number;
  readonly count: number;
  readonly end: number;
  readonly rank: number;
  readonly ranks: number;
}

/**
 * `arena[first + i]` = the sum over all ranks of their element i: its own, as the wire holds it, and the received ones.
 */
export function sumGradients(device: Device, arena: Operand, part: ReceivedGradients): void {
  run(device, arena, part, false);
}

/**
 * `arena[first + r count + i]` = element i that rank r sent. Its own part is there already; it is rounded as the others
 * see it.
 */
export function placeGradients(device: Device, arena: Operand, part: ReceivedGradients): void {
  run(device, arena, part, true);
}

function run(device: Device, arena: Operand, part: ReceivedGradients, copy: boolean): void {
  const { received, wire, first, count, end, rank, ranks } = part;
  arena.storage.version++;
  device.run(
    sumKernel,
    { wire, copy },
    [received, arena],
    [count / 4, first / 4, end / 4, rank, ranks],
    grid1d(count / 4, GROUP),
  );
}
