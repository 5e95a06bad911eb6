// An autoencoder as diffusers lays it out: config.json and diffusion_pytorch_model.safetensors in a folder. Folders of
// others are read: the configuration goes through a schema, and shapes are compared before memory is taken.

import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { FormatError, ValueError, errorClause } from '../core/errors.ts';
import { Generator, scope, type Device } from '../core/index.ts';
import {
  AutoencoderKL,
  currentName,
  fromDiffusers,
  toDiffusers,
  vaeShapes,
  type VaeConfig,
} from '../models/vae/index.ts';
import type { StateTensors } from '../nn/index.ts';
import { fileError, type FileData } from './files.ts';
import { firstNotFinite } from './finite.ts';
import { checked, readJson } from './jsonFile.ts';
import { locateCheckpoint } from './runFolder.ts';
import { checkSafetensorsFile, hostEntry, readSafetensorsFile, safetensorsPieces } from './safetensorsFile.ts';

const WEIGHTS = 'diffusion_pytorch_model.safetensors',
  CONFIG = 'config.json';

const positive = z.int().min(1).max(65536);

/** diffusers' config.json; fields that do not matter here are not looked at. */
const vaeSchema = z.looseObject({
  _class_name: z.literal('AutoencoderKL'),
  in_channels: positive.default(3),
  out_channels: positive.default(3),
  block_out_channels: z.array(positive).min(1).max(8),
  layers_per_block: positive.max(64).default(1),
  latent_channels: positive.default(4),
  norm_num_groups: positive.default(32),
  sample_size: positive.default(32),
  scaling_factor: z.number().gt(0).max(1e6).default(0.18215),
  shift_factor: z.number().min(-1e6).max(1e6).nullish(),
  mid_block_add_attention: z.boolean().optional(),
  use_quant_conv: z.boolean().optional(),
  use_post_quant_conv: z.boolean().optional(),
  act_fn: z.literal('silu').optional(),
});

/** Where an autoencoder lies: the folder itself, or the newest checkpoint of a run of `train-vae`. */
export async function locateVae(path: string): Promise<string> {
  const names = await readdir(path).catch((error: unknown) => {
    throw fileError('loadVae', 'open', path, error);
  });
  if (names.includes(WEIGHTS)) return path;
  if (names.includes('checkpoints')) return (await locateCheckpoint(path)).checkpoint.path;
  if (names.includes('vae')) return locateVae(join(path, 'vae'));
  throw new FormatError('loadVae', `${path} holds no autoencoder`, {
    expected: `${CONFIG} and ${WEIGHTS}, as diffusers and dis-cli train-vae write them`,
    remedy: 'check the path',
  });
}

/** The configuration in an autoencoder's folder. @throws FileError, FormatError */
export async function readVaeConfig(folder: string): Promise<VaeConfig> {
  const path = join(folder, CONFIG);
  const json = checked(vaeSchema, await readJson(path), path);
  try {
    return fromDiffusers(json);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw new FormatError('loadVae', `${path} describes no autoencoder: ${errorClause(error)}`, {
      expected: error.expected,
      remedy: 'use another one',
      cause: error,
    });
  }
}

/** Compares names and shapes of the weights with the configuration; no weights are read. */
export function checkVae(folder: string, config: VaeConfig): Promise<void> {
  return checkSafetensorsFile(join(folder, WEIGHTS), vaeShapes(config), currentName);
}

/** An autoencoder that was read. */
export interface StoredVae {
  /** Where it lies. */
  readonly folder: string;
  readonly config: VaeConfig;
  readonly weights: StateTensors;
  /** Of configuration and weights. */
  readonly digest: string;
}

/**
 * Reads an autoencoder.
 *
 * @param path the folder, or a run of `train-vae`
 * @throws FileError, FormatError naming the file that is missing, damaged, another model's or not finite
 */
export async function readVae(path: string): Promise<StoredVae> {
  const folder = await locateVae(path);
  const config = await readVaeConfig(folder);
  await checkVae(folder, config);
  const file = join(folder, WEIGHTS);
  const entries = await readSafetensorsFile(file);
  const ruined = firstNotFinite(entries);
  if (ruined !== undefined)
    throw new FormatError('loadVae', `${file} holds numbers that are not finite, in ${ruined}`, {
      remedy: 'use another one',
    });
  const hash = createHash('sha256').update(JSON.stringify(config));
  for (const [name, { data }] of [...entries].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return { folder, config, weights: entries, digest: hash.digest('hex').slice(0, 16) };
}

/** The autoencoder on a device, in evaluation mode; the caller disposes of it. */
export function buildVae(device: Device, { config, weights }: StoredVae): AutoencoderKL {
  const generator = new Generator(device);
  const vae = scope(() => new AutoencoderKL(generator, config));
  generator.dispose();
  vae.loadStateDict(weights);
  return vae.eval();
}

/** Reads an autoencoder onto a device: `readVae` and `buildVae`. */
export async function loadVae(
  device: Device,
  path: string,
): Promise<{ readonly vae: AutoencoderKL; readonly folder: string; readonly digest: string }> {
  const stored = await readVae(path);
  return { vae: buildVae(device, stored), folder: stored.folder, digest: stored.digest };
}

/** The two files of an autoencoder. */
export function vaeFiles(config: VaeConfig, weights: StateTensors): [name: string, data: FileData][] {
  return [
    [CONFIG, `${JSON.stringify(toDiffusers(config), null, 2)}\n`],
    [
      WEIGHTS,
      safetensorsPieces(new Map(Array.from(weights, ([name, value]) => [name, hostEntry(value)])), { format: 'pt' }),
    ],
  ];
}
