// Tensors by name: an operation takes and gives tensors in objects and arrays of them, however deep. Here such a tree
// becomes a list, and a list a tree of the same shape.

import type { Tensor } from '../tensor.ts';
import { isTensor } from '../tensor/make.ts';

/** The same names with something else in the place of each tensor. */
export type Mapped<Tree, Leaf> = Tree extends Tensor
  ? Leaf
  : Tree extends readonly unknown[]
    ? { readonly [K in keyof Tree]: Mapped<Tree[K], Leaf> }
    : Tree extends object
      ? { readonly [K in keyof Tree]: Mapped<Tree[K], Leaf> }
      : Tree;

/** The same names, each of which may be left out, with something else in the place of each tensor. */
export type PartlyMapped<Tree, Leaf> = Tree extends Tensor
  ? Leaf | null | undefined
  : Tree extends readonly unknown[]
    ? readonly (PartlyMapped<Tree[number], Leaf> | null | undefined)[]
    : Tree extends object
      ? { readonly [K in keyof Tree]?: PartlyMapped<Tree[K], Leaf> | null | undefined }
      : Tree | null | undefined;

/** Stands for the tensor `index` of a tree that must not be held. */
export class Place {
  readonly index: number;

  constructor(index: number) {
    this.index = index;
  }
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** All tensors of a tree, in a fixed order. Objects of classes are passed over. */
export function leavesOf(tree: unknown, into: Tensor[] = []): Tensor[] {
  if (typeof tree !== 'object' || tree === null) return into;
  if (isTensor(tree)) into.push(tree);
  else if (Array.isArray(tree)) for (const item of tree) leavesOf(item, into);
  else if (isPlain(tree)) for (const name in tree) leavesOf((tree as Record<string, unknown>)[name], into);
  return into;
}

/** A tree with every leaf replaced; other values and objects of classes stay as they are. */
export function mapTree<Leaf>(
  tree: unknown,
  isLeaf: (value: unknown) => value is Leaf,
  replace: (leaf: Leaf) => unknown,
): unknown {
  if (typeof tree !== 'object' || tree === null) return tree;
  if (isLeaf(tree)) return replace(tree);
  if (Array.isArray(tree)) return tree.map((item) => mapTree(item, isLeaf, replace));
  if (!isPlain(tree)) return tree;
  const mapped: Record<string, unknown> = {};
  for (const name in tree) mapped[name] = mapTree((tree as Record<string, unknown>)[name], isLeaf, replace);
  return mapped;
}

/** A tree of tensors with a place instead of each. */
export function placesOf(tree: unknown): unknown {
  let next = 0;
  return mapTree(tree, isTensor, () => new Place(next++));
}

/** A tree of places filled with values by their index. */
export function filled(places: unknown, values: (index: number) => unknown): unknown {
  return mapTree(places, isPlace, ({ index }) => values(index));
}

/** The values that stand at the places of a tree, by index. */
export function valuesAt<V>(places: unknown, values: unknown, into: (V | null)[]): (V | null)[] {
  if (typeof places !== 'object' || places === null) return into;
  if (isPlace(places)) into[places.index] = (values ?? null) as V | null;
  else if (typeof values === 'object' && values !== null)
    for (const name in places)
      valuesAt((places as Record<string, unknown>)[name], (values as Record<string, unknown>)[name], into);
  return into;
}

function isPlace(value: unknown): value is Place {
  return value instanceof Place;
}
