// The kinds of models there are. A new one is a file like dis.ts and its line here.

import { ValueError } from '../../core/errors.ts';
import { disKind, type DisFlags } from './dis.ts';
import type { CommonModelFlags, ModelConfig, ModelKind } from './kind.ts';

export type { BuiltModel, Costs, ModelConfig, ModelKind, Parts } from './kind.ts';

/** Flags of all kinds. */
export type ModelFlags = CommonModelFlags & DisFlags;

export const MODEL_KINDS: readonly ModelKind<ModelConfig, ModelFlags>[] = [disKind];

/** The kind whose name is in a config.json; runs begun before there were kinds are DiS. */
export function kindNamed(name = 'dis'): ModelKind<ModelConfig, ModelFlags> {
  const kind = MODEL_KINDS.find((known) => known.name === name);
  if (!kind)
    throw new ValueError('kindNamed', `is ${JSON.stringify(name)}`, {
      option: 'kind',
      expected: MODEL_KINDS.map((known) => known.name).join(', '),
    });
  return kind;
}

/** The kind that a `--model` is of. */
export function kindOfModel(model: string): ModelKind<ModelConfig, ModelFlags> {
  return MODEL_KINDS.find(({ names }) => names.includes(model))!;
}
