// Finds the operation that first makes NaN. Values are on the GPU, so nothing can be looked at on the way: every result
// is counted there, and the counts are read at the end.

import { isFloat } from '../tensor/dtype.ts';
import { AnomalyError } from '../errors.ts';
import { keep, scope } from '../tensor/scope.ts';
import { show, type Shape } from '../tensor/shape.ts';
import { noGrad } from './gradMode.ts';
import { observeOps, type OpEvent } from './observe.ts';
import type { Tensor } from '../tensor.ts';

/** What `detectAnomaly` looks for. */
export interface AnomalyOptions {
  /** Infinities count too; by default NaN alone. */
  infinities?: boolean;
}

interface Note {
  readonly event: Omit<OpEvent, 'inputs' | 'outputs'>;
  readonly shape: Shape;
  readonly numel: number;
  /** Bad values in the inputs and in the output. */
  readonly counts: readonly [before: Tensor | null, after: Tensor];
  readonly stack: string;
}

/**
 * Runs `fn`, forward and backward passes alike, and tells the first operation whose result holds NaN, with the place in
 * the program that called it. Much slower than running `fn` alone; for searching.
 *
 * @returns what `fn` returns
 * @throws AnomalyError that names the operation, its shape, how many values are bad, and whether its inputs were so
 *   already
 */
export async function detectAnomaly<R>(fn: () => R, options: AnomalyOptions = {}): Promise<R> {
  const { infinities = false } = options;
  const notes: Note[] = [];
  const count = (t: Tensor): Tensor =>
    scope(() => noGrad(() => (infinities ? t.isFinite().logicalNot() : t.isNan()).sum()));
  const watched = (tensors: readonly Tensor[]): Tensor[] => tensors.filter((t) => isFloat(t.dtype) && t.numel > 0);
  const watch = (event: OpEvent): void => {
    observeOps(null);
    const inputs = watched(event.inputs);
    for (const output of watched(event.outputs)) {
      notes.push({
        event: { op: event.op, backwardOf: event.backwardOf },
        shape: output.shape,
        numel: output.numel,
        stack: new Error().stack ?? '',
        counts: [
          inputs.length ? keep(scope(() => inputs.map(count).reduce((a, b) => a.add(b)))) : null,
          keep(count(output)),
        ],
      });
    }
    observeOps(watch);
  };
  const before = observeOps(watch);
  // V8 keeps ten frames, which the engine's own may fill.
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 100;
  let result: R;
  try {
    result = fn();
  } finally {
    observeOps(before);
    Error.stackTraceLimit = stackTraceLimit;
  }
  const flags = notes.flatMap(({ counts }) => counts.filter((t) => t !== null));
  try {
    await check(notes, infinities ? 'NaN or infinity' : 'NaN');
  } finally {
    for (const t of flags) t.dispose();
  }
  return result;
}

/** Counts that are read at a time. */
const TOGETHER = 256;

async function check(notes: readonly Note[], what: string): Promise<void> {
  if (!notes.length) return;
  const counts: number[] = [];
  // Read together, but not so many that reading them takes much memory.
  for (let at = 0; at < notes.length; at += TOGETHER)
    counts.push(...(await Promise.all(notes.slice(at, at + TOGETHER).map((note) => note.counts[1].item()))));
  const first = counts.findIndex((bad) => bad > 0);
  if (first < 0) return;
  const {
    event: { op, backwardOf },
    shape,
    numel,
    counts: [before],
    stack: trace,
  } = notes[first];
  const already = before ? await before.item() : 0;
  const who =
    backwardOf === null
      ? op
      : backwardOf === op
        ? `The backward pass of ${op}`
        : `${op}, in the backward pass of ${backwardOf},`;
  const error = new AnomalyError(
    'detectAnomaly',
    `${who} gave ${what} in ${counts[first]} of ${numel} values of a result of shape ${show(shape)}; ` +
      `its inputs had ${already ? `${already} already` : 'none'}`,
    { remedy: already ? 'look at what is given to it' : undefined },
  );
  // Where the operation was called says more than where its result was looked at.
  error.stack = `${error.name}: ${error.message}\n${trace.split('\n').slice(1).join('\n')}`;
  throw error;
}
