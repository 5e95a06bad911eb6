// A process on a device: its settings, its coefficients, the timesteps that the model is given, and the operations made
// for it.

import { ShapeError } from '../../core/errors.ts';
import { keep, show, tensor, type Device, type Tensor } from '../../core/index.ts';
import { coefficientTable, type CoefficientTable, type Columns } from './coefficients.ts';
import { learnsVariance, type DiffusionSettings } from './settings.ts';
import { checkTimesteps, type TimestepOp } from './timestepOp.ts';

/**
 * What denoises: from x_t (batch, channels, …) and the timesteps (batch) of the process that it was trained on to
 * (batch, channels, …), or to twice the channels where the variance is learned. Labels and the like come with the
 * closure.
 */
export type DiffusionModel = (x: Tensor, timesteps: Tensor) => Tensor;

/** What a model is given. */
export interface ProcessOptions {
  /** Give the model timesteps scaled to 0 … 1000 (f32), whatever the number of steps it was trained on. */
  readonly rescaleTimesteps?: boolean;
}

/** The part of a process that all of its operations share. Its tables are freed by `dispose()`. */
export class DiffusionProcess {
  /** Where it computes. */
  readonly device: Device;
  /** Its variances and types. */
  readonly settings: DiffusionSettings;
  /** Parts of the model's output: 2 where its second half of channels is the variance. */
  readonly outputParts: 1 | 2;
  private readonly tables = new Map<string, CoefficientTable>();
  private readonly operations = new Map<string, unknown>();
  /** Step of the process → what the model is given; null where they are the same. */
  private readonly timestepMap: Tensor | null;

  constructor(device: Device, settings: DiffusionSettings, { rescaleTimesteps = false }: ProcessOptions = {}) {
    this.device = device;
    this.settings = settings;
    this.outputParts = learnsVariance(settings) ? 2 : 1;
    const { timestepMap, originalTimesteps } = settings;
    if (rescaleTimesteps)
      this.timestepMap = keep(
        tensor(
          device,
          Float32Array.from(timestepMap, (t) => (t * 1000) / originalTimesteps),
        ),
      );
    else this.timestepMap = timestepMap.every((t, i) => t === i) ? null : keep(tensor(device, timestepMap));
  }

  /** Steps of this process, after respacing. */
  get numTimesteps(): number {
    return this.settings.numTimesteps;
  }

  /** The coefficients of the process. */
  table(): Tensor {
    return this.tableWith('', () => ({})).tensor;
  }

  /** The coefficients of the process and further columns, made once for each key. */
  tableWith(key: string, columns: () => Columns): CoefficientTable {
    let table = this.tables.get(key);
    if (!table) {
      this.tables.set(key, (table = coefficientTable(this.device, this.settings, columns())));
      keep(table.tensor);
    }
    return table;
  }

  /** An operation that depends on the settings, made once for each key. */
  operation<Name extends string>(key: string, make: () => TimestepOp<Name>): TimestepOp<Name> {
    let op = this.operations.get(key) as TimestepOp<Name> | undefined;
    if (!op) this.operations.set(key, (op = make()));
    return op;
  }

  /** What the model is given for steps t (batch) of this process: i32, or f32 where rescaled. */
  modelTimesteps(t: Tensor): Tensor {
    return this.timestepMap ? this.timestepMap.indexSelect(0, t) : t;
  }

  /** The model's output for x_t. */
  predict(name: string, model: DiffusionModel, x: Tensor, t: Tensor): Tensor {
    checkTimesteps(name, t, x.shape[0]);
    const output = model(x, this.modelTimesteps(t));
    const [batch, channels, ...rest] = x.shape;
    const expected = [batch, channels * this.outputParts, ...rest];
    const learned = this.outputParts === 2;
    if (output.shape.length !== expected.length || output.shape.some((size, i) => size !== expected[i])) {
      throw new ShapeError(name, `The model gave shape ${show(output.shape)}`, {
        expected: `${show(expected)} for x of shape ${show(x.shape)} and a variance that is ${learned ? 'learned' : 'fixed'}`,
        remedy: learned ? undefined : 'split off its second half, or set learnSigma',
      });
    }
    return output;
  }

  /** Frees its tables. */
  dispose(): void {
    for (const { tensor } of this.tables.values()) tensor.dispose();
    this.tables.clear();
    this.timestepMap?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
