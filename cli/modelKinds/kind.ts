// What the command line has to know of a kind of model to train, sample and describe it. Nothing else in cli/ knows one
// kind from another.

import type { Option } from 'commander';
import type { z } from 'zod';
import type { FloatDType, Generator } from '../../core/index.ts';
import type { LabelledModel } from '../../models/sample/index.ts';
import type { Denoiser } from '../../models/train/types.ts';

/** What every configuration has; a kind's own says more. */
export type ModelConfig = LabelledModel['config'];

/** A model that can be trained and sampled. */
export type BuiltModel = Denoiser & LabelledModel;

/** Flags that every kind reads. */
export interface CommonModelFlags {
  readonly model: string;
  readonly imageSize: number;
  readonly labelDropout: number;
  readonly learnSigma: boolean;
}

/** Numbers by part, and `total`. */
export type Parts = Readonly<Record<string, number>> & { readonly total: number };

/** What a configuration costs, from shapes alone. */
export interface Costs {
  readonly parameters: number;
  readonly tokens: number;
  /** Floating-point operations of a forward pass over one image. */
  readonly flopsPerImage: Parts;
  /** Bytes of GPU memory, an estimate. */
  readonly training: Parts;
  readonly sampling: Parts;
}

export interface ModelKind<Config extends ModelConfig = ModelConfig, Flags = object> {
  /** In config.json. */
  readonly name: string;
  /** What `--model` may be. */
  readonly names: readonly string[];
  /** Names and sizes in a few words, for `--model` in --help. */
  readonly about: string;
  /** Flags of this kind alone. */
  flags(): Option[];
  /** @throws ValueError whose option is one of the API; see flagNames.ts */
  fromFlags(flags: CommonModelFlags & Flags, data: { readonly channels: number; readonly numClasses: number }): Config;
  /** Fields of a stored configuration and their types. */
  readonly stored: z.ZodType<object>;
  /** Checks a stored configuration whose fields are right as a whole. @throws ValueError for one that makes no model */
  fromStored(stored: object): Config;
  /** Names and shapes of the parameters, in the order of the weight file. */
  shapes(config: Config): readonly (readonly [name: string, shape: readonly number[]])[];
  costs(config: Config, options: { readonly batch: number; readonly precision: FloatDType }): Costs;
  /** What `info` says of a configuration: a word and what it is. */
  summary(config: Config): readonly (readonly [label: string, text: string])[];
  /** @param generator draws the initial values */
  build(generator: Generator, config: Config): BuiltModel;
}
