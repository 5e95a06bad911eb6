// The error classes of the engine. An error is data: the operation, what was wrong, what was expected and what to do
// are fields, and the message is made of them: `[operation] what, expected …; remedy.`

/** What a sentence about an error is made of. */
export interface ErrorFields {
  /** What was wrong, with the offending value. Where there is an `option`, what is said of it: `is 2`. */
  readonly what: string;
  /** What would have been right; follows the word "expected". */
  readonly expected?: string | undefined;
  /** What to do about it. */
  readonly remedy?: string | undefined;
  /** The option or argument that has the wrong value, by its name in the API; the subject of `what`. */
  readonly option?: string | undefined;
}

/** The optional fields of an error, and the error that it comes from. */
export interface ErrorDetails extends Omit<ErrorFields, 'what'> {
  readonly cause?: unknown;
}

/** What was wrong as a clause with its subject: `minLr is 2`. */
export function errorClause({ what, option }: Pick<ErrorFields, 'what' | 'option'>): string {
  return option === undefined ? what : `${option} ${what}`;
}

/** `option what, expected …; remedy.` – the sentence without the operation, with one full stop. */
export function errorSentence({ expected, remedy, ...subject }: ErrorFields): string {
  let text = errorClause(subject);
  if (expected !== undefined) text += `, expected ${expected}`;
  if (remedy !== undefined) text += `; ${remedy}`;
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}

/**
 * Base of every error that the engine raises on purpose.
 *
 * ```ts
 * throw new ShapeError('matmul', `a has shape ${show(a.shape)} and b ${show(b.shape)}`, {
 *   expected: 'the last dimension of a to be the one before last of b',
 *   remedy: 'transpose one of them',
 * });
 * // [matmul] a has shape (2,3) and b (4,5), expected the last dimension of a to be the one before last of b; transpose one of them.
 * throw new ValueError('warmupCosine', `is ${minLr}`, { option: 'minLr', expected: `at most lr, which is ${lr}` });
 * // [warmupCosine] minLr is 2, expected at most lr, which is 1.
 * ```
 */
export class EngineError extends Error implements ErrorFields {
  /** The class' name, also in bundles that rename classes. */
  override name = 'EngineError';
  /** The function, layer or kernel that noticed. */
  readonly operation: string;
  readonly what: string;
  readonly expected: string | undefined;
  readonly remedy: string | undefined;
  readonly option: string | undefined;

  constructor(operation: string, what: string, { expected, remedy, option, cause }: ErrorDetails = {}) {
    super(`[${operation}] ${errorSentence({ what, expected, remedy, option })}`, cause === undefined ? {} : { cause });
    this.operation = operation;
    this.what = what;
    this.expected = expected;
    this.remedy = remedy;
    this.option = option;
  }
}

/** An argument has a value outside what the operation takes. */
export class ValueError extends EngineError {
  override name = 'ValueError';
}

/** A shape does not fit the operation. */
export class ShapeError extends EngineError {
  override name = 'ShapeError';
}

/** A data type does not fit the operation. */
export class DTypeError extends EngineError {
  override name = 'DTypeError';
}

/** A file or byte stream is not what its format says. */
export class FormatError extends EngineError {
  override name = 'FormatError';
}

/** No adapter, or none that has what was asked for. */
export class AdapterError extends EngineError {
  override name = 'AdapterError';
  /** Names of the adapters that there are, where one was asked for by name. */
  readonly available: readonly string[];

  constructor(
    operation: string,
    what: string,
    { available = [], ...options }: ErrorDetails & { readonly available?: readonly string[] } = {},
  ) {
    super(operation, what, options);
    this.available = available;
  }
}

/** A tensor or dispatch is larger than the adapter allows, or a kernel needs a feature that it lacks. */
export class LimitError extends EngineError {
  override name = 'LimitError';
}

/** WGSL of a kernel was refused by the compiler. */
export class CompileError extends EngineError {
  override name = 'CompileError';
  /** The whole program with line numbers, as the compiler was given it. */
  readonly listing: string;

  constructor(operation: string, what: string, { listing, ...options }: ErrorDetails & { readonly listing: string }) {
    super(operation, what, options);
    this.message += `\n${listing}`;
    this.listing = listing;
  }
}

/** WebGPU reported a validation, out-of-memory or internal error of work submitted earlier. */
export class GpuError extends EngineError {
  override name = 'GpuError';
  /** Whether memory ran out: a smaller batch may do. */
  readonly outOfMemory: boolean;

  constructor(
    operation: string,
    what: string,
    { outOfMemory = false, ...options }: ErrorDetails & { readonly outOfMemory?: boolean } = {},
  ) {
    super(operation, what, options);
    this.outOfMemory = outOfMemory;
  }
}

/** The GPU device is gone: driver reset, removal, or `destroy()`. Nothing on it can be read any more. */
export class DeviceLostError extends EngineError {
  override name = 'DeviceLostError';
}

/** A tensor is used after it was disposed of. */
export class DisposedError extends EngineError {
  override name = 'DisposedError';
}

/** A derivative that doesn't exist or whose saved values are gone. */
export class GradError extends EngineError {
  override name = 'GradError';
}

/** An operation gave NaN or infinity; see `detectAnomaly`. */
export class AnomalyError extends EngineError {
  override name = 'AnomalyError';
}
