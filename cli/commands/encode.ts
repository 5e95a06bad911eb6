// `dis-cli encode`: pictures to latents, once, for training in an autoencoder's latent space.

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { Generator, keep, noGrad, scope, tensor, type Device } from '../../core/index.ts';
import { DataLoader, type Dataset } from '../../models/data/dataset.ts';
import type { AutoencoderKL } from '../../models/vae/index.ts';
import type { SafetensorsEntry } from '../../nn/index.ts';
import { readLatentIndex, shardName, shardShapes, type LatentIndex } from '../data/latentFolder.ts';
import { openData } from '../data/openData.ts';
import { EXIT, UsageError } from '../errors.ts';
import { makeFolder, sweepTemporary, writeFileAtomic } from '../files.ts';
import { counted } from '../format.ts';
import { catchInterrupt } from '../interrupt.ts';
import { invocation } from '../invocation.ts';
import { adapterFlags, adapterLabel, openCliDevice, type AdapterOptions } from '../openCliDevice.ts';
import { flag, integer, text } from '../options.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle, Progress, say } from '../progress.ts';
import { checkSafetensorsFile, safetensorsPieces } from '../safetensorsFile.ts';
import { skipReporter } from '../skipReporter.ts';
import { loadTuning } from '../tuningCache.ts';
import { loadVae, vaeFiles } from '../vaeFolder.ts';

interface EncodeOptions extends AdapterOptions {
  readonly data: string;
  readonly vae: string;
  readonly out: string;
  readonly imageSize?: number;
  readonly unlabelled?: boolean;
  readonly background?: string;
  readonly mirrored: boolean;
  readonly sample?: number;
  readonly tile?: number;
  readonly batch: number;
  readonly shard: number;
}

export function encodeCommand(): Command {
  const command = new Command('encode')
    .description(
      'turn pictures into a data set of latents for train --latents; what is there already is not done again',
    )
    .addOption(flag('--data <what>', 'as of train: a folder, a ZIP file, shapes, …', text).makeOptionMandatory())
    .addOption(
      flag(
        '--vae <folder>',
        'an autoencoder as diffusers or train-vae wrote it, or a run of train-vae',
        text,
      ).makeOptionMandatory(),
    )
    .addOption(flag('--out <folder>', 'folder of the latents', text, 'latents'))
    .addOption(
      flag(
        '--image-size <pixels>',
        "side of the square pictures (default: the autoencoder's)",
        integer({ min: 1, max: 8192 }),
      ),
    )
    .option('--unlabelled', 'take no notice of classes')
    .addOption(flag('--background <colour>', 'what shines through transparent pixels', text))
    .option('--no-mirrored', 'leave out the mirrored pictures, which train --flip takes')
    .addOption(
      flag(
        '--sample <seed>',
        'draw from the distribution of latents (default: the most likely ones)',
        integer({ min: 0 }),
      ),
    )
    .addOption(
      flag(
        '--tile <latents>',
        'encode in overlapping tiles of this side, for large pictures',
        integer({ min: 2, max: 4096 }),
      ),
    )
    .addOption(flag('--batch <n>', 'pictures at once', integer({ min: 1 }), 16))
    .addOption(flag('--shard <n>', 'pictures in a file', integer({ min: 1, max: 2 ** 20 }), 4096))
    .optionsGroup('Adapter:');
  for (const option of adapterFlags()) command.addOption(option);
  return command.action(encode);
}

async function encode(options: EncodeOptions): Promise<void> {
  const interrupt = catchInterrupt(() => say('Stopping; what is written stays.'));
  const { signal } = interrupt;
  try {
    using device = await openCliDevice(options);
    await loadTuning(device);
    const { vae, digest } = await loadVae(device, options.vae);
    using owned = vae;
    const size = options.imageSize ?? vae.config.sampleSize;
    if (size % vae.factor)
      throw new UsageError(`--image-size is ${size}, expected a multiple of the ${vae.factor} pixels of a latent.`);
    const { dataset, fingerprint, description } = await openData(options.data, {
      size,
      unlabelled: options.unlabelled ?? false,
      background: options.background,
      channels: vae.config.inChannels === 1 ? 1 : 3,
      onSkip: skipReporter(),
      onNotice: say,
      signal,
    });
    const index: LatentIndex = {
      format: 'dis-latents',
      version: 1,
      vaeDigest: digest,
      scalingFactor: vae.config.scalingFactor,
      shiftFactor: vae.config.shiftFactor,
      sampleSeed: options.sample ?? null,
      count: dataset.length,
      shard: options.shard,
      channels: vae.config.latentChannels,
      size: size / vae.factor,
      imageSize: size,
      mirrored: options.mirrored,
      numClasses: dataset.numClasses,
      classNames: [...dataset.classNames],
      dataFingerprint: fingerprint,
    };
    await beginFolder(options.out, index, owned);
    say(`${description}; ${index.channels}×${index.size}×${index.size} latents on ${adapterLabel(device)}`);
    const shards = Math.ceil(index.count / index.shard);
    const progress = new Progress({ noun: 'picture', total: index.count, style: defaultStyle('lines') });
    try {
      for (let k = 0; k < shards; k++) {
        const path = join(options.out, shardName(k));
        const whole = await checkSafetensorsFile(path, shardShapes(index, k)).then(() => true, () => false); // prettier-ignore
        if (!whole) await encodeShard({ device, vae: owned, dataset, index, options, signal, progress }, k, path);
        progress.update({ step: Math.min(index.count, (k + 1) * index.shard) });
      }
    } finally {
      progress.end();
    }
    print(
      printable(
        `${counted(index.count, 'picture')} in ${options.out}. Train with ` +
          invocation('train', '--latents', options.out, '--model', 'DiS-S/2'),
      ),
    );
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
    say('Stopped; the same command goes on from here.');
    process.exitCode = EXIT.interrupted;
  } finally {
    interrupt.release();
  }
}

/** Makes the folder with its index and the autoencoder, or finds one that the same command began. */
async function beginFolder(out: string, index: LatentIndex, vae: AutoencoderKL): Promise<void> {
  const names = await readdir(out).catch(() => [] as string[]);
  if (names.includes('index.json')) {
    const before = await readLatentIndex(out);
    const other = (Object.keys(index) as (keyof LatentIndex)[]).find(
      (name) => JSON.stringify(before[name]) !== JSON.stringify(index[name]),
    );
    if (other !== undefined)
      throw new UsageError(`${out} holds other latents: their ${other} is another; give another folder with --out.`);
    await sweepTemporary(out);
    return;
  }
  if (names.length > 0)
    throw new UsageError(`${out} holds ${names[0]}, expected a new or empty folder; give another with --out.`);
  await makeFolder(join(out, 'vae'));
  const weights = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const [name, t] of vae.stateDict())
    weights.set(name, { shape: t.shape, data: (await t.data()) as Float32Array });
  for (const [name, data] of vaeFiles(vae.config, weights)) await writeFileAtomic(join(out, 'vae', name), data);
  await writeFileAtomic(join(out, 'index.json'), `${JSON.stringify(index, null, 2)}\n`);
}

interface Encoding {
  readonly device: Device;
  readonly vae: AutoencoderKL;
  readonly dataset: Dataset;
  readonly index: LatentIndex;
  readonly options: EncodeOptions;
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** Encodes the pictures of a shard and writes it at once. */
async function encodeShard(e: Encoding, k: number, path: string): Promise<void> {
  const { dataset, index, options, signal, progress } = e;
  const first = k * index.shard;
  const shapes = new Map(shardShapes(index, k));
  const n = shapes.get('labels')![0];
  const each = index.channels * index.size ** 2;
  const latents = new Float32Array(n * each);
  const mirrored = index.mirrored ? new Float32Array(n * each) : null;
  const labels = new Int32Array(n);
  const part: Dataset = { ...dataset, length: n, item: (i) => dataset.item(first + i) };
  const loader = new DataLoader(part, {
    batchSize: Math.min(options.batch, n),
    shuffle: false,
    dropLast: false,
    epochs: 1,
    signal,
  });
  let at = 0;
  for await (const batch of loader) {
    labels.set(batch.labels, at);
    latents.set(await encoded(e, batch.images, batch.shape, first + at, 0), at * each);
    mirrored?.set(await encoded(e, mirror(batch.images, batch.shape[3]), batch.shape, first + at, 1), at * each);
    at += batch.shape[0];
    progress.update({ step: first + at });
  }
  const tensors = new Map<string, SafetensorsEntry>([
    ['latents', { dtype: 'F32', shape: shapes.get('latents')!, data: latents } as const],
    ...(mirrored
      ? [['mirrored', { dtype: 'F32', shape: shapes.get('latents')!, data: mirrored } as const] as const]
      : []),
  ]);
  tensors.set('labels', { dtype: 'I32', shape: [n], data: labels });
  await rm(path, { force: true });
  await writeFileAtomic(path, safetensorsPieces(tensors));
}

/** Scaled latents of a batch; what is drawn depends on the picture's number, not on the batch. */
async function encoded(
  { device, vae, index, options }: Encoding,
  images: Float32Array,
  shape: readonly number[],
  first: number,
  mirrored: number,
): Promise<Float32Array> {
  const generator = index.sampleSeed === null ? undefined : new Generator(device, index.sampleSeed);
  const t = noGrad(() =>
    scope(() => {
      const x = tensor(device, images, { shape });
      const posterior = options.tile === undefined ? vae.encode(x) : vae.encodeTiled(x, { tile: options.tile });
      const blocks = Math.ceil((index.channels * index.size ** 2) / 4);
      generator?.setState({ seed: index.sampleSeed!, position: (mirrored * index.count + first) * blocks });
      return keep(vae.toLatents(generator ? posterior.sample(generator) : posterior.mode()));
    }),
  );
  generator?.dispose();
  const values = (await t.data()) as Float32Array;
  t.dispose();
  return values;
}

/** Each row from right to left. */
function mirror(images: Float32Array, width: number): Float32Array {
  const out = new Float32Array(images.length);
  for (let row = 0; row < images.length; row += width)
    for (let x = 0; x < width; x++) out[row + x] = images[row + width - 1 - x];
  return out;
}
