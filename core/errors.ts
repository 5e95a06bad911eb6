// The error classes of the engine. Messages follow one grammar: `[operation] what is wrong with the offending value, expected
// what; what to do.`

/** Base of every error that the engine raises on purpose. */
export class EngineError extends Error {
  override name = 'EngineError';
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
}

/** A tensor or dispatch is larger than the adapter allows, or a kernel needs a feature that it lacks. */
export class LimitError extends EngineError {
  override name = 'LimitError';
}

/** WGSL of a kernel was refused by the compiler. */
export class CompileError extends EngineError {
  override name = 'CompileError';
}

/** WebGPU reported a validation, out-of-memory or internal error of work submitted earlier. */
export class GpuError extends EngineError {
  override name = 'GpuError';
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
