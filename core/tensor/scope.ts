// Who disposes of intermediate tensors: every tensor belongs to the innermost scope that is open when it is made, and a
// scope's end frees all of its tensors except those that it returns. Scopes are synchronous, so that they nest.

import { ValueError } from '../errors.ts';

/** What a scope can own. */
interface Owned {
  dispose(): void;
}

const open: Set<Owned>[] = [];

/** Puts a new tensor under the innermost scope. */
export function own(tensor: Owned): void {
  open.at(-1)?.add(tensor);
}

/** Takes a tensor out of whatever scope holds it: it lives until `dispose()`. */
export function keep<T extends Owned>(tensor: T): T {
  for (const scope of open) scope.delete(tensor);
  return tensor;
}

/**
 * Runs `fn` and frees every tensor made in it, except those in its result (found in arrays, plain objects and maps),
 * which go to the surrounding scope.
 *
 * @throws ValueError when `fn` is asynchronous: other code could run, and allocate, in the middle of the scope
 */
export function scope<R>(fn: () => R): R {
  const mine = new Set<Owned>();
  open.push(mine);
  let result: R;
  try {
    result = fn();
    if (result instanceof Promise) {
      result.catch(() => undefined); // nobody waits for it
      throw new ValueError('scope', 'The function returned a promise', {
        expected: 'a synchronous function',
        remedy: 'read values back outside of the scope',
      });
    }
    const outer = open.at(-2);
    visit(result, (tensor) => {
      if (mine.delete(tensor)) outer?.add(tensor);
    });
  } finally {
    open.splice(open.lastIndexOf(mine), 1);
    for (const tensor of mine) tensor.dispose();
  }
  return result;
}

function visit(value: unknown, found: (tensor: Owned) => void, seen = new Set<unknown>()): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  seen.add(value);
  if ('storage' in value && 'dispose' in value) found(value as unknown as Owned);
  else if (Array.isArray(value)) for (const item of value) visit(item, found, seen);
  else if (value instanceof Map) for (const item of value.values()) visit(item, found, seen);
  else if (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null) {
    for (const item of Object.values(value)) visit(item, found, seen);
  }
}
