// A table whose keys are plain data compared by content. Looking one up walks a tree of maps and makes no text of the
// key, which matters where it happens at every dispatch.

type Node<T> = { readonly next: Map<unknown, Node<T>>; value?: T };

const makeNode = <T>(): Node<T> => ({ next: new Map() });
const OPEN = Symbol('open'),
  CLOSE = Symbol('close');

export class StructuralMap<T> {
  private root = makeNode<T>();
  private entries = 0;
  private readonly limit: number;

  /** @param limit entries, after which the table begins anew */
  constructor(limit: number) {
    this.limit = limit;
  }

  get size(): number {
    return this.entries;
  }

  /** What was stored under a key of this content. Objects of classes are compared by identity. */
  get(key: unknown): T | undefined {
    return walk(this.root, key, false)?.value;
  }

  set(key: unknown, value: T): void {
    if (this.entries >= this.limit) this.clear();
    const node = walk(this.root, key, true)!;
    if (node.value === undefined) this.entries++;
    node.value = value;
  }

  clear(): void {
    this.root = makeNode();
    this.entries = 0;
  }
}

function step<T>(node: Node<T>, by: unknown, grow: boolean): Node<T> | undefined {
  let next = node.next.get(by);
  if (!next && grow) node.next.set(by, (next = makeNode()));
  return next;
}

function walk<T>(node: Node<T>, key: unknown, grow: boolean): Node<T> | undefined {
  if (typeof key !== 'object' || key === null) return step(node, key, grow);
  let at: Node<T> | undefined = node;
  if (Array.isArray(key)) {
    at = step(at, OPEN, grow);
    for (let i = 0; at && i < key.length; i++) at = walk(at, key[i], grow);
  } else if (isPlain(key)) {
    for (const name in key) {
      at = step(at, name, grow);
      if (!at) return undefined;
      at = walk(at, (key as Record<string, unknown>)[name], grow);
      if (!at) return undefined;
    }
  } else {
    return step(at, key, grow);
  }
  return at && step(at, CLOSE, grow);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
