// Long work on the host stops now and then, so that a page or a progress bar goes on, and looks whether it is to end.

/** Milliseconds of work between pauses. */
const SLICE = 50;

/**
 * Makes a function to call often from a long loop. It returns a promise when it is time for a pause, and undefined
 * otherwise: `const wait = breathe(); if (wait) await wait;`
 *
 * @throws what the signal was aborted with, from the promise
 */
export function breather(signal?: AbortSignal): () => Promise<void> | undefined {
  let next = performance.now() + SLICE;
  const pause = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    next = performance.now() + SLICE;
  };
  return () => (performance.now() < next ? undefined : pause());
}
