// Runs the norm kernels on operands: what autograd, tests and benchmarks call.

import { DTypeError, type Device, type DType, type FloatDType } from '../../core/index.ts';
import { grid1d, type Operand } from '../../core/kit.ts';
import {
  normBackwardKernel,
  normColumnsKernel,
  normSumColumns,
  normSumKernel,
  type NormSumVariant,
} from './backward.ts';
import { normConfig, type NormConfig } from './config.ts';
import { normForwardKernel } from './forward.ts';
import { groupSize } from './team.ts';

/** Rows or a vector, contiguous from the operand's offset. */
export interface NormOperand extends Operand {
  readonly dtype: DType;
}

export interface NormShape {
  readonly norm: 'rms' | 'layer';
  readonly rows: number;
  readonly width: number;
}

export interface NormForward extends NormShape {
  readonly eps: number;
  readonly x: NormOperand;
  /** (samples) f32: x of each sample, a run of `rows / samples` rows, is multiplied by its factor. */
  readonly factors?: Operand | null;
  readonly samples?: number;
  readonly residual?: NormOperand | null;
  readonly weight?: NormOperand | null;
  readonly bias?: NormOperand | null;
  readonly y: NormOperand;
  readonly residualOut?: NormOperand | null;
  /** f32, for the derivative: mean (0 for RMS norm) and 1 / standard deviation, (rows, 2); with factors (rows, 4). */
  readonly stats?: Operand | null;
}

/** One dispatch: y and, where asked for, residualOut and stats. */
export function normForward(
  device: Device,
  args: NormForward,
  config: NormConfig = normConfig(device, args.width),
): void {
  const { norm, rows, width } = args;
  const variant = {
    norm,
    width,
    x: float(args.x),
    factors: args.factors != null,
    residual: maybe(args.residual),
    weight: maybe(args.weight),
    bias: maybe(args.bias),
    y: float(args.y),
    residualOut: maybe(args.residualOut),
    stats: args.stats != null,
    team: config.team,
    keep: config.keep,
  };
  device.run(
    normForwardKernel,
    variant,
    present<Operand>([
      args.x,
      args.factors,
      args.residual,
      args.weight,
      args.bias,
      args.y,
      args.residualOut,
      args.stats,
    ]),
    [rows, args.eps, rows / (args.samples ?? 1)],
    grid1d(rows * config.team.size, groupSize(config.team)),
  );
}

export interface NormBackward extends NormShape {
  /** residualOut of the forward, or x. */
  readonly h: NormOperand;
  /** The residual, where h is x. */
  readonly residual?: NormOperand | null;
  /** Whether forward had factors. h is from before them where it is x, from after them where it is residualOut. */
  readonly factors?: 'before' | 'after' | null;
  readonly weight?: NormOperand | null;
  readonly stats: Operand;
  readonly dy: NormOperand;
  readonly dresidualOut?: NormOperand | null;
  readonly dx: NormOperand;
  readonly dresidual?: NormOperand | null;
  /** f32, `normPartials(...)` elements; needed with dweight or dbias. */
  readonly partial?: Operand | null;
  readonly dweight?: NormOperand | null;
  readonly dbias?: NormOperand | null;
}

/** Elements of the partial sums that `normBackward` needs for `sums` (0 to 2) of dweight and dbias. */
export function normPartials(config: NormConfig, { rows, width }: NormShape, sums: number): number {
  return runs(rows, config.partials).teams * sums * width;
}

/**
 * One dispatch for dx (and dresidual). With dweight or dbias a second one adds up partial sums; where rows are
 * streamed, one between them makes those.
 */
export function normBackward(
  device: Device,
  args: NormBackward,
  config: NormConfig = normConfig(device, args.width),
): void {
  const { norm, rows, width } = args;
  const outputs = present([args.dweight, args.dbias]);
  const sums = { weight: args.dweight != null, bias: args.dbias != null };
  const inside = outputs.length > 0 && config.keepBackward;
  const split = inside ? runs(rows, config.partials) : { teams: rows, rowsPerTeam: 1 };
  const h = float(args.h);
  const residual = maybe(args.residual);
  const dy = float(args.dy);
  const factors = args.factors != null,
    unscaled = args.factors === 'before';
  device.run(
    normBackwardKernel,
    {
      norm,
      width,
      h,
      residual,
      factors,
      unscaled,
      weight: maybe(args.weight),
      dy,
      dresidualOut: maybe(args.dresidualOut),
      dx: float(args.dx),
      dresidual: maybe(args.dresidual),
      sums: inside ? sums : { weight: false, bias: false },
      team: config.team,
      keep: config.keepBackward,
    },
    present([
      args.h,
      args.residual,
      args.weight,
      args.dy,
      args.dresidualOut,
      args.stats,
      args.dx,
      args.dresidual,
      inside ? args.partial : null,
    ]),
    [rows, split.teams, split.rowsPerTeam],
    grid1d(split.teams * config.team.size, groupSize(config.team)),
  );
  if (outputs.length === 0) return;
  const vector = width % 4 === 0 ? 4 : 1;
  const { teams, rowsPerTeam } = runs(rows, config.partials);
  if (!inside) {
    device.run(
      normColumnsKernel,
      { width, h, residual, factors, unscaled, dy, sums },
      present([args.h, args.residual, args.dy, args.stats, args.partial]),
      [rows, teams, rowsPerTeam],
      grid1d(teams * (width / vector), 64),
    );
  }
  const variant: NormSumVariant = { width, outputs: outputs.map(float), slices: config.slices };
  device.run(
    normSumKernel,
    variant,
    present([args.partial, ...outputs]),
    [teams],
    grid1d(outputs.length * (width / vector), normSumColumns(variant)),
  );
}

/** Rows that a team adds up at most: a long chain of additions loses digits. */
const MOST_ROWS = 64;

/** How many rows each team gets; of `teams`, or of more where they would get too many. */
function runs(rows: number, teams: number): { teams: number; rowsPerTeam: number } {
  const rowsPerTeam = Math.min(MOST_ROWS, Math.max(1, Math.ceil(rows / teams)));
  return { teams: Math.ceil(rows / rowsPerTeam), rowsPerTeam };
}

function float(operand: NormOperand): FloatDType {
  if (operand.dtype !== 'f32' && operand.dtype !== 'f16') {
    throw new DTypeError('addNorm', `An operand has dtype ${operand.dtype}`, {
      expected: 'f32 or f16',
      remedy: 'convert it first',
    });
  }
  return operand.dtype;
}

function maybe(operand: NormOperand | null | undefined): FloatDType | null {
  return operand == null ? null : float(operand);
}

function present<T extends Operand>(operands: readonly (T | null | undefined)[]): T[] {
  return operands.filter((operand): operand is T => operand != null);
}
