// What the texts behind wgslMath.ts are made of.

/** Names of WGSL types, of one element or of four. */
export interface Form {
  readonly f: string;
  readonly u: string;
  readonly i: string;
  readonly b: string;
  /** Ends a function's name. */
  readonly s: '' | '4';
}

export interface MathFunction {
  /** Functions that it calls, in its own form. */
  readonly calls?: readonly MathName[];
  /**
   * Its text for a form; the form of four calls the other for each element where `each` says how many arguments there
   * are.
   */
  readonly text: (form: Form) => string;
  readonly each?: 1 | 2;
}

/** Functions by name; in WGSL `mathErf(x: f32)`, and `mathErf4(x: vec4f)` for four. */
export type MathName =
  | 'special'
  | 'nan'
  | 'notFinite'
  | 'mulHi'
  | 'exp'
  | 'expPart'
  | 'scale'
  | 'log'
  | 'log1pPart'
  | 'log1p'
  | 'log1pUnit'
  | 'expm1'
  | 'sinCosPart'
  | 'quarterTurns'
  | 'sin'
  | 'cos'
  | 'tanhPart'
  | 'tanh'
  | 'sigmoid'
  | 'quickSigmoid'
  | 'softplus'
  | 'erfPart'
  | 'erfc'
  | 'erf'
  | 'pow'
  | 'remainder'
  | 'minimum'
  | 'maximum'
  | 'accumulate'
  | 'toInt'
  | 'toUint';
