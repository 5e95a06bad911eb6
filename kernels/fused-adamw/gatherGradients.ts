// Copies gradients into an arena, seven in a dispatch: every adapter has eight storage buffers, and one is the arena. A
// model has some hundred parameters; a dispatch for each would be a sixth of the dispatches of its training step.

import { ShapeError, show, type Device, type FloatDType, type Tensor } from '../../core/index.ts';
import { defineKernel, grid1d } from '../../core/kit.ts';
import { floatArena } from './globalNorm.ts';

/** Gradients that one dispatch takes. */
export const GRADIENTS_PER_DISPATCH = 7;

/** A contiguous gradient, and the element of the arena where its first value goes. */
export interface GradientPlace {
  readonly gradient: Tensor;
  readonly offset: number;
}

interface Variant {
  readonly count: number;
  readonly dtype: FloatDType;
  readonly vector: 1 | 4;
  readonly add: boolean;
}

const GROUP = 64;

/**
 * Operands: the gradients, arena. Parameters of each gradient: where its vectors end in the grid, its first vector, its
 * place in the arena.
 */
const gatherKernel = defineKernel<Variant>('gatherGradients', ({ count, dtype, vector, add }) => {
  const array = (type: string): string => `array<${vector === 4 ? `vec4<${type}>` : type}>`;
  const each = <T>(make: (k: number) => T): T[] => Array.from({ length: count }, (_, k) => make(k));
  const branch = (k: number): string => `if (flat < p.end${k}) {
  let i = flat - ${k === 0 ? '0u' : `p.end${k - 1}`};
  let to = p.place${k} + i;
  arena[to] = ${add ? 'arena[to] + ' : ''}${vector === 4 ? 'vec4f' : 'f32'}(g${k}[p.first${k} + i]);
}`;
  return {
    bindings: [
      ...each((k) => ({ name: `g${k}`, type: array(dtype), access: 'read' as const })),
      { name: 'arena', type: array('f32'), access: 'write' },
    ],
    params: each((k) => [`end${k}`, `first${k}`, `place${k}`])
      .flat()
      .map((name) => ({ name, type: 'u32' })),
    workgroupSize: [GROUP],
    coarsenable: true,
    enable: dtype === 'f16' ? ['f16'] : [],
    body: each(branch).join(' else '),
  };
});

/**
 * Writes gradients to their places in a flat f32 arena, or adds them to what is there. Places must not overlap.
 *
 * @throws DTypeError, ShapeError
 */
export function gatherGradients(
  device: Device,
  arena: Tensor,
  places: readonly GradientPlace[],
  { add = false } = {},
): void {
  const groups = new Map<string, { variant: Omit<Variant, 'count'>; members: GradientPlace[] }>();
  for (const place of places) {
    const { gradient, offset } = place;
    if (!gradient.isContiguous)
      throw new ShapeError(
        'gatherGradients',
        `A gradient of shape ${show(gradient.shape)} has strides ${show(gradient.strides)}`,
        { expected: 'rows one after the other', remedy: 'make it contiguous()' },
      );
    if (offset < 0 || offset + gradient.numel > arena.numel)
      throw new ShapeError(
        'gatherGradients',
        `A gradient of shape ${show(gradient.shape)} at ${offset} leaves the arena of ${arena.numel} elements`,
      );
    if (!gradient.numel) continue;
    const dtype = floatArena('gatherGradients', 'A gradient', gradient);
    const aligned = [
      gradient.numel,
      gradient.offset,
      offset,
      arena.offset,
      gradient.storage.bytes / (dtype === 'f16' ? 2 : 4),
    ].every((n) => n % 4 === 0);
    const vector = aligned ? 4 : 1;
    const key = `${dtype}${vector}`;
    if (!groups.has(key)) groups.set(key, { variant: { dtype, vector, add }, members: [] });
    groups.get(key)!.members.push(place);
  }
  arena.storage.version++;
  for (const { variant, members } of groups.values()) {
    for (let at = 0; at < members.length; at += GRADIENTS_PER_DISPATCH)
      dispatch(device, arena, members.slice(at, at + GRADIENTS_PER_DISPATCH), variant);
  }
}

function dispatch(
  device: Device,
  arena: Tensor,
  members: readonly GradientPlace[],
  variant: Omit<Variant, 'count'>,
): void {
  const { vector } = variant;
  let end = 0;
  const params = members.flatMap(({ gradient, offset }) => {
    end += gradient.numel / vector;
    return [end, gradient.offset / vector, (arena.offset + offset) / vector];
  });
  const operands = [...members.map((m) => m.gradient), arena].map(({ storage }) => ({ storage, byteOffset: 0 }));
  device.run(gatherKernel, { ...variant, count: members.length }, operands, params, grid1d(end, GROUP));
}
