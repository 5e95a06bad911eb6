// What the official train.py saves, `{"model", "ema", "opt", "args"}`, as parts of ours: the configuration from the
// shapes of the weights, moments by the parameters' names, arguments as plain values. Tensors are read one by one when
// they are asked for. State dicts by themselves are taken as well.

import { FormatError, type ErrorDetails } from '../../core/errors.ts';
import { sameShape, show } from '../../core/index.ts';
import {
  PtObject,
  PtTensor,
  ptTensors,
  toFloat32,
  type LazyTensor,
  type LazyTensors,
  type PtFile,
  type PtValue,
} from '../../nn/index.ts';
import type { DisConfig } from './config.ts';
import { disConfigFromShapes } from './configFromShapes.ts';
import { recogniseWeights } from './recognise.ts';

/** The state of the optimizer in an official checkpoint. */
export interface OfficialOptimizer {
  /** Steps taken. */
  readonly step: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weightDecay: number;
  /** First and second moments of Adam, `m.NAME` and `v.NAME`; zero where a parameter had no gradient yet. */
  readonly moments: LazyTensors;
}

/** The parts of a checkpoint that the official code wrote. */
export interface OfficialCheckpoint {
  readonly config: DisConfig;
  /** Parameters; of a file that has the average alone, that. */
  readonly model: LazyTensors;
  /** Their moving average; of a file that has none, the parameters. */
  readonly ema: LazyTensors;
  readonly optimizer?: OfficialOptimizer;
  /** Arguments of train.py that are numbers, texts, true, false or null; empty where the file has none. */
  readonly args: Readonly<Record<string, number | string | boolean | null>>;
}

const MOST_ARGUMENTS = 1000;

/**
 * Finds the parts of a checkpoint in what was saved. No weights are read.
 *
 * @throws FormatError where it is no checkpoint of DiS, saying what it looks like, or its parts contradict each other
 */
export async function officialCheckpoint(file: PtFile): Promise<OfficialCheckpoint> {
  const root = file.value;
  if (!(root instanceof Map)) throw refuse('the file holds no dictionary', { expected: EXPECTED });
  const args = plainArguments(root.get('args'));
  const saved = stateDict(root.get('model')) ?? stateDict(root.get('model_state_dict')),
    averaged = stateDict(root.get('ema')) ?? stateDict(root.get('model_ema'));
  const alone = saved ?? averaged ?? stateDict(root.get('state_dict')) ?? stateDict(root);
  if (!alone) throw nothingToRead(root);
  const model = saved ?? alone,
    ema = averaged ?? alone;
  const numClasses = typeof args.num_classes === 'number' ? args.num_classes : undefined;
  const config = disConfigFromShapes(shapesOf(model), numClasses);
  for (const [name, { shape }] of ema)
    if (!model.has(name) || !sameShape(model.get(name)!.shape, shape) || ema.size !== model.size)
      throw refuse(`${name} of the average has shape ${show(shape)}, and the model's is another`, {
        expected: 'two state dicts of one model',
      });
  const opt = root.get('opt') ?? root.get('optimizer');
  return {
    config,
    model: lazily(file, model),
    ema: lazily(file, ema),
    ...(opt instanceof Map && { optimizer: await optimizerOf(file, opt, model) }),
    args,
  };
}

const EXPECTED = 'what the official train.py saves, or a state dict';

type Tensors = Map<string, PtTensor>;

/** A dictionary of tensors, without the prefix that DDP or torch.compile puts before all names. */
function stateDict(value: PtValue | undefined): Tensors | undefined {
  if (!(value instanceof Map) || value.size === 0) return undefined;
  const entries = [...value];
  if (!entries.every(([name, tensor]) => typeof name === 'string' && tensor instanceof PtTensor)) return undefined;
  let tensors = new Map(entries as [string, PtTensor][]);
  for (const prefix of ['_orig_mod.', 'module.', '_orig_mod.'])
    if ([...tensors.keys()].every((name) => name.startsWith(prefix)))
      tensors = new Map([...tensors].map(([name, tensor]) => [name.slice(prefix.length), tensor]));
  return tensors;
}

const shapesOf = (tensors: Tensors): Map<string, readonly number[]> =>
  new Map([...tensors].map(([name, { shape }]) => [name, shape]));

/** What to say of a file in which no state dict was found where one is expected. */
function nothingToRead(root: Map<PtValue, PtValue>): FormatError {
  const looks = recogniseWeights(shapesOf(ptTensors(root)));
  const isOptimizer = root.has('param_groups') && root.has('state');
  const keys = [...root.keys()].slice(0, 5).map((key) => JSON.stringify(String(key).slice(0, 40)));
  const what = isOptimizer
    ? "the file is an optimizer's state alone, without a model"
    : `the file holds ${keys.length > 0 ? keys.join(', ') : 'nothing'}${looks === undefined ? '' : `: it looks like ${looks}`}`;
  return refuse(what, { expected: EXPECTED });
}

/** Fields of an argparse.Namespace, or of a dictionary. */
function plainArguments(value: PtValue | undefined): OfficialCheckpoint['args'] {
  const fields = value instanceof PtObject ? value.fields : value instanceof Map ? value : new Map<PtValue, PtValue>();
  if (fields.size > MOST_ARGUMENTS)
    throw refuse(`args has ${fields.size} fields`, { expected: `at most ${MOST_ARGUMENTS}` });
  const plain = [...fields].filter(
    ([name, each]) =>
      typeof name === 'string' && (each === null || ['number', 'string', 'boolean'].includes(typeof each)),
  );
  return Object.fromEntries(plain) as OfficialCheckpoint['args'];
}

function lazily(file: PtFile, tensors: Tensors): LazyTensors {
  return new Map([...tensors].map(([name, tensor]) => [name, lazy(file, tensor)]));
}

function lazy(file: PtFile, tensor: PtTensor): LazyTensor {
  const { shape } = tensor;
  return { shape, read: async () => ({ dtype: 'F32', shape, data: toFloat32(await file.read(tensor)) }) };
}

/** `torch.optim.AdamW.state_dict()`: state i belongs to the i-th parameter. */
async function optimizerOf(file: PtFile, opt: Map<PtValue, PtValue>, model: Tensors): Promise<OfficialOptimizer> {
  const groups = opt.get('param_groups'),
    state = opt.get('state');
  const [group] = Array.isArray(groups) ? groups : [];
  if (!Array.isArray(groups) || groups.length !== 1 || !(group instanceof Map) || !(state instanceof Map))
    throw refuse(`the optimizer has ${Array.isArray(groups) ? `${groups.length} groups` : 'no groups'} of parameters`, {
      expected: 'one, as train.py makes it',
    });
  const ids = group.get('params');
  if (!Array.isArray(ids) || ids.length !== model.size)
    throw refuse(`the optimizer has ${Array.isArray(ids) ? ids.length : 'no list of'} parameters`, {
      expected: `${model.size}, as many as the model`,
    });
  for (const name of ['amsgrad', 'maximize'])
    if (group.get(name) === true) throw refuse(`the optimizer was used with ${name}`, { expected: 'AdamW without it' });
  const number = (value: PtValue | undefined, name: string, below: number): number => {
    if (typeof value === 'number' && value >= 0 && value < below) return value;
    throw refuse(`the optimizer's ${name} is ${String(value)}`, { expected: `a number from 0 to below ${below}` });
  };
  const betas = group.get('betas');
  if (!Array.isArray(betas) || betas.length !== 2) throw refuse("the optimizer's betas are no two numbers");
  const moments = new Map<string, LazyTensor>();
  const steps = new Set<number>();
  for (const [i, [name, { shape }]] of [...model].entries()) {
    const own = state.get(ids[i]);
    if (own !== undefined && !(own instanceof Map)) throw refuse(`the optimizer's state of ${name} is no dictionary`);
    if (own) steps.add(await stepOf(file, own.get('step'), name));
    for (const [key, official] of [
      ['m', 'exp_avg'],
      ['v', 'exp_avg_sq'],
    ] as const) {
      const tensor = own?.get(official);
      if (own && (!(tensor instanceof PtTensor) || !sameShape(tensor.shape, shape)))
        throw refuse(`${official} of ${name} is no tensor of shape ${show(shape)}`, {
          expected: 'the state of an AdamW of this model',
        });
      moments.set(`${key}.${name}`, tensor instanceof PtTensor ? lazy(file, tensor) : zeros(shape));
    }
  }
  if (steps.size > 1)
    throw refuse(`the optimizer took ${[...steps].slice(0, 3).join(', ')} steps with different parameters`, {
      expected: 'the same number with all',
    });
  return {
    step: [...steps][0] ?? 0,
    betas: [number(betas[0], 'first beta', 1), number(betas[1], 'second beta', 1)],
    eps: number(group.get('eps') ?? 1e-8, 'eps', 1),
    weightDecay: number(group.get('weight_decay') ?? 0, 'weight decay', 1e6),
    moments,
  };
}

/** A number before PyTorch 1.12, a tensor without dimensions since. */
async function stepOf(file: PtFile, value: PtValue | undefined, name: string): Promise<number> {
  const step = value instanceof PtTensor && value.shape.length === 0 ? toFloat32(await file.read(value))[0] : value;
  if (typeof step === 'number' && Number.isSafeInteger(step) && step >= 0) return step;
  throw refuse(`the optimizer's step of ${name} is ${typeof step === 'number' ? step : 'no number'}`, {
    expected: 'a whole number from 0 on',
  });
}

function zeros(shape: readonly number[]): LazyTensor {
  const length = shape.reduce((product, n) => product * n, 1);
  return { shape, read: () => Promise.resolve({ dtype: 'F32', shape, data: new Float32Array(length) }) };
}

function refuse(what: string, details?: ErrorDetails): FormatError {
  return new FormatError('officialCheckpoint', what, details);
}
