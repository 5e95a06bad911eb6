// Whether operations are recorded.

import { ValueError } from '../errors.ts';

let gradEnabled = true;

/** Whether operations are recorded. */
export function isGradEnabled(): boolean {
  return gradEnabled;
}

/** Runs `fn` recording or not. */
export function withGrad<R>(enabled: boolean, fn: () => R): R {
  const before = gradEnabled;
  gradEnabled = enabled;
  try {
    const result = fn();
    if (result instanceof Promise) {
      result.catch(() => undefined); // nobody waits for it
      throw new ValueError('noGrad', 'The function returned a promise', {
        expected: 'a synchronous function: other code would run in its mode',
      });
    }
    return result;
  } finally {
    gradEnabled = before;
  }
}

/** Runs `fn` without recording: nothing that it computes has a gradient. */
export function noGrad<R>(fn: () => R): R {
  return withGrad(false, fn);
}

/** Runs `fn` recording, inside of `noGrad` too. */
export function enableGrad<R>(fn: () => R): R {
  return withGrad(true, fn);
}
