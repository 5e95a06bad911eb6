// `dis-cli sample`: images from a run or a checkpoint.

import { stat } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { Command } from 'commander';
import { SAMPLER_NAMES, SAMPLERS, type Sampler, type SamplerName } from '../../models/diffusion/index.ts';
import type { ImageBatch } from '../../models/data/grid.ts';
import { checkSampling, sampleImages } from '../../models/sample/index.ts';
import type { Weights } from '../checkpoint.ts';
import { emaInitialShare } from '../../nn/index.ts';
import { labelsOf } from '../classNames.ts';
import { openDecoder } from '../decodeLatents.ts';
import { checkGpuOptions, workerFlags } from '../distributed/gpus.ts';
import { endWithLauncher, type GpuOptions } from '../distributed/workers.ts';
import { Interrupted, UsageError } from '../errors.ts';
import { checkWritable, fileError, makeFolder } from '../files.ts';
import { drawSampleSet } from '../drawSampleSet.ts';
import { counted, grouped } from '../format.ts';
import { catchInterrupt } from '../interrupt.ts';
import { adapterFlags, adapterLabel, openCliDevice, type AdapterOptions } from '../openCliDevice.ts';
import { choice, flag, integer, number, probability, text } from '../options.ts';
import { IMAGE_ENDINGS, writeAnimation, writeImages } from '../pictures.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle, Progress, say } from '../progress.ts';
import { emaDecay, type RunConfig } from '../runConfig.ts';
import { isNpz, MOST_SAMPLES } from '../sampleSet.ts';
import type { LabelOrder } from '../sampleSetIdentity.ts';
import { labelsOfRows, sampleSheet, writeSamples } from '../sampleSheet.ts';
import { loadTuning } from '../tuningCache.ts';
import { modelOfSource, openWeightSource, type WeightSource } from '../weightSource.ts';
import { trainDefaults } from './train.ts';

interface SampleCommandOptions extends AdapterOptions, GpuOptions {
  readonly classes?: string;
  readonly count?: number;
  readonly guidance?: number;
  readonly guidanceChannels?: number;
  readonly steps?: number;
  readonly sampler: SamplerName;
  readonly eta: number;
  readonly seed: number;
  readonly batch: number;
  readonly weights: Weights;
  readonly precision: 'f32' | 'f16';
  readonly vae?: string;
  readonly out: string;
  readonly folder?: string;
  readonly labels: LabelOrder;
  readonly each?: string;
  readonly animate?: string;
  readonly quiet?: boolean;
}

/** Rows of a sheet where no classes are named. */
const CLASSES = 10;
/** Frames of an animation. */
const FRAMES = 48;

export function sampleCommand(): Command {
  const command = new Command('sample')
    .description('draw images from a run or a checkpoint and write them as a sheet, single files or an animation')
    .argument(
      '<folder>',
      'a run, whose newest checkpoint is taken, a checkpoint, a .pt or .safetensors file, or hf:OWNER/NAME',
    )
    .optionsGroup('What:')
    .addOption(flag('--classes <list>', 'names or numbers, separated by commas (default: the first ten)', text))
    .addOption(
      flag(
        '--count <n>',
        'images of each class, or in all without classes (default: 8 of a class, 16 in all); ' +
          'with --folder or a .npz, in all, of all classes',
        integer({ min: 1 }),
      ),
    )
    .addOption(
      flag(
        '--guidance <scale>',
        'classifier-free guidance; 1: none (default: 1.5 where the model can be guided)',
        number({ min: 0 }),
      ),
    )
    .addOption(
      flag(
        '--guidance-channels <n>',
        'guide so many channels; the official code guides 3 of a latent (default: all)',
        integer({ min: 1 }),
      ),
    )
    .addOption(flag('--seed <n>', 'other images for another number', integer({ min: 0 }), 0))
    .addOption(
      flag('--weights <which>', "ema: the moving average; model: the last step's", choice(['ema', 'model']), 'ema'),
    )
    .optionsGroup('How:')
    .addOption(
      flag(
        '--sampler <name>',
        Object.entries(SAMPLERS)
          .map(([name, { about }]) => `${name}: ${about}`)
          .join('; '),
        choice(SAMPLER_NAMES),
        'ddim',
      ),
    )
    .addOption(flag('--steps <n>', 'sampling steps (default: 50)', integer({ min: 1 })))
    .addOption(flag('--eta <share>', 'noise that DDIM adds, from 0 to 1', probability({ closed: true }), 0))
    .addOption(flag('--batch <n>', 'images at once', integer({ min: 1 }), 32))
    .addOption(flag('--precision <type>', 'f32 or f16', choice(['f32', 'f16']), 'f32'))
    .addOption(
      flag(
        '--vae <folder>',
        'the autoencoder that decodes the latents of a run on latents (default: the one that the run remembers)',
        text,
      ),
    )
    .optionsGroup('Where:')
    .addOption(
      flag(
        '--out <path>',
        'the sheet: a .png, .webp, .avif or .jpg file, or a folder for sheet.png; or a .npz file of --count images ' +
          'as the evaluation suite of ADM reads it',
        text,
        'samples.png',
      ),
    )
    .addOption(flag('--folder <folder>', 'no sheet, but --count PNGs, and dataset.json with their labels', text))
    .addOption(
      flag(
        '--labels <order>',
        'with --folder or a .npz: cycle through the classes, or random ones',
        choice(['cycle', 'random']),
        'cycle',
      ),
    )
    .addOption(flag('--each <folder>', 'write every image to a PNG of its own, too', text))
    .addOption(flag('--animate <file>', 'a .gif or .webp of the sheet coming out of the noise', text))
    .option('-q, --quiet', 'say nothing')
    .optionsGroup('Adapter:');
  for (const option of [...workerFlags(), ...adapterFlags()]) command.addOption(option);
  return command.action(sample);
}

async function sample(folder: string, options: SampleCommandOptions): Promise<void> {
  endWithLauncher();
  const sampler = chooseSampler(options);
  const animation = options.animate;
  if (animation !== undefined && !['.gif', '.webp'].includes(extname(animation).toLowerCase())) {
    throw new UsageError(`--animate is ${JSON.stringify(animation)}, expected the name of a .gif or .webp file.`);
  }
  const set = options.folder ?? (isNpz(options.out) ? options.out : undefined);
  checkGpuOptions(options);
  if (set !== undefined) return sampleSet(folder, set, options, sampler);
  if (options.gpus !== undefined)
    throw new UsageError('--gpus divides a set of samples; give --folder or a .npz file and --count, or leave it out.');
  const out = (await isFolderName(options.out)) ? join(options.out, 'sheet.png') : options.out;
  if (!IMAGE_ENDINGS.includes(extname(out).toLowerCase())) {
    throw new UsageError(
      `--out is ${JSON.stringify(options.out)}, expected a name that ends in one of ${IMAGE_ENDINGS.join(', ')}, or a folder, ` +
        `which ends in a slash where it isn't there yet.`,
    );
  }
  const source = await openWeightSource(folder, trainDefaults());
  try {
    await sampleFrom(source, { ...options, out }, sampler);
  } finally {
    await source.close();
  }
}

async function sampleFrom(source: WeightSource, options: SampleCommandOptions, sampler: Sampler): Promise<void> {
  const { config, step } = source;
  const { animate: animation, out } = options;
  const { vae } = config.settings;
  requireLatents(config, options.vae);
  const {
    classNames,
    diffusion,
    model: { classDropoutProb },
  } = config;
  const classes = chooseClasses(options.classes, config);
  const guidance = {
    scale: options.guidance ?? (classes && classDropoutProb > 0 ? 1.5 : 1),
    channels: options.guidanceChannels,
  };
  const steps = options.steps ?? Math.min(50, diffusion.diffusionSteps ?? 1000);
  const count = options.count ?? (classes ? 8 : 16);
  const labels = labelsOfRows(classes, count);
  checkSampling(config.model, { labels, count, guidance, diffusion, steps });
  await source.check(options.weights);
  // Before the work, not after it.
  const unmake: (() => Promise<void>)[] = [];
  try {
    for (const path of [out, options.each && join(options.each, '0.png'), animation]) {
      if (path !== undefined) unmake.unshift(await prepareFor(path));
    }
    await drawAndWrite();
  } finally {
    // Folders that nothing came into.
    for (const undo of unmake) await undo();
  }

  async function drawAndWrite(): Promise<void> {
    const interrupt = catchInterrupt(() => say('Stopping.'));
    const total = (classes?.length ?? 1) * count;
    const style = options.quiet ? 'none' : defaultStyle('lines');
    const batches = Math.ceil(total / options.batch);
    const progress = new Progress({ total: steps * batches, style });
    try {
      using device = await openCliDevice(options);
      await loadTuning(device);
      using model = await modelOfSource(device, source, options.weights);
      model.to(options.precision);
      if (step !== undefined) warnOfYoungAverage(options.weights, config, step);
      progress.note(
        `${printable(source.title)}${step === undefined ? '' : `, step ${grouped(step)}`}, ` +
          `${counted(total, 'image')} on ${adapterLabel(device)}`,
      );
      using decoder = vae && disposable(await openDecoder(device, vae, options.vae));
      const sampled = await sampleImages({
        device,
        model,
        diffusion,
        labels,
        count,
        guidance,
        sampler,
        steps,
        seed: options.seed,
        batch: options.batch,
        signal: interrupt.signal,
        frames: animation === undefined ? 0 : FRAMES,
        onStep: (step) => progress.update({ step }),
      });
      progress.end();
      const images = decoder ? await decoder.decode(sampled.images) : sampled.images;
      const frames: ImageBatch[] = [];
      for (const frame of sampled.frames) frames.push(decoder ? await decoder.decode(frame) : frame);
      const layout = { classes, classNames };
      await writeSamples(out, images, layout);
      const written = [out];
      if (options.each !== undefined) {
        const digits = String(total - 1).length;
        const nameOf = (i: number): string => {
          const label = classes?.[Math.floor(i / count)];
          return `${String(i).padStart(digits, '0')}${label === undefined ? '' : `-${fileName(classNames[label] ?? String(label))}`}.png`;
        };
        await writeImages(options.each, images, nameOf);
        written.push(`${counted(total, 'image')} in ${options.each}`);
      }
      if (animation !== undefined) {
        await writeAnimation(
          animation,
          frames.map((frame) => sampleSheet(frame, layout)),
        );
        written.push(animation);
      }
      if (!options.quiet) print(printable(`Wrote ${written.join(', ')}.`));
    } catch (error) {
      if (interrupt.signal.aborted && error === interrupt.signal.reason) throw new Interrupted();
      throw error;
    } finally {
      progress.end();
      interrupt.release();
    }
  }
}

/** Many images for an evaluation, in one file or a folder. */
async function sampleSet(folder: string, out: string, options: SampleCommandOptions, sampler: Sampler): Promise<void> {
  const { count, each, animate, guidance } = options;
  if (count === undefined)
    throw new UsageError(`How many images are to be drawn into ${out} is missing; give it with --count.`);
  if (count > MOST_SAMPLES)
    throw new UsageError(`--count is ${count}, expected at most ${grouped(MOST_SAMPLES)} in one set.`);
  const wanted = count;
  if (each !== undefined || animate !== undefined)
    throw new UsageError('--each and --animate belong to a sheet; leave them out with --folder or a .npz file.');
  const source = await openWeightSource(folder, trainDefaults());
  try {
    await drawFrom(source);
  } finally {
    await source.close();
  }

  async function drawFrom(source: WeightSource): Promise<void> {
    const { config, step } = source;
    requireLatents(config, options.vae);
    const { numClasses, classDropoutProb } = config.model;
    const every = numClasses > 0 ? Array.from({ length: numClasses }, (_, label) => label) : undefined;
    const classes = options.classes === undefined ? every : chooseClasses(options.classes, config);
    await source.check(options.weights);
    if (step !== undefined) warnOfYoungAverage(options.weights, config, step);
    await drawSampleSet({
      ...options,
      out,
      count: wanted,
      source,
      classes,
      samplerName: options.sampler,
      sampler,
      steps: options.steps ?? Math.min(50, config.diffusion.diffusionSteps ?? 1000),
      guidance: {
        scale: guidance ?? (classes && classDropoutProb > 0 ? 1.5 : 1),
        channels: options.guidanceChannels,
      },
    });
  }
}

/** Only latents are decoded. @throws UsageError */
function requireLatents({ settings }: RunConfig, folder: string | undefined): void {
  if (folder !== undefined && !settings.vae)
    throw new UsageError('--vae is given, but the model was trained on pixels; leave it out.');
}

const disposable = <T extends { dispose(): void }>(item: T): T & Disposable =>
  Object.assign(item, { [Symbol.dispose]: () => item.dispose() });

/** What a moving average holds of the weights that a run began with makes noise of its samples. */
function warnOfYoungAverage(weights: Weights, { settings }: RunConfig, step: number): void {
  const share = weights === 'ema' ? emaInitialShare(emaDecay(settings), step) : 0;
  if (share < 0.02) return;
  say(
    `The moving average is young: at step ${grouped(step)} it still holds ${Math.round(100 * share)} % of the weights ` +
      'that training began with. ' +
      `--weights model takes the last step's.`,
  );
}

function chooseSampler({ sampler, eta }: Pick<SampleCommandOptions, 'sampler' | 'eta'>): Sampler {
  const takesEta = (name: SamplerName): boolean => (SAMPLERS[name].takes as readonly string[]).includes('eta');
  if (eta > 0 && !takesEta(sampler)) {
    const which = SAMPLER_NAMES.filter(takesEta).join(' or ');
    throw new UsageError(`--eta is ${eta}, but only --sampler ${which} has it.`);
  }
  return SAMPLERS[sampler].create({ eta });
}

/** Labels of the classes named; the first ones where none is. */
function chooseClasses(
  names: string | undefined,
  { model: { numClasses }, classNames }: RunConfig,
): number[] | undefined {
  if (numClasses === 0) {
    if (names) throw new UsageError('--classes is given, but the model was trained without classes; leave it out.');
    return undefined;
  }
  if (!names) return Array.from({ length: Math.min(CLASSES, numClasses) }, (_, label) => label);
  return labelsOf(names, classNames, numClasses);
}

/** Whether `--out` names a folder: one that is there, or a name that ends in a slash or has no ending. */
async function isFolderName(out: string): Promise<boolean> {
  if (/[/\\]$/.test(out) || extname(out) === '') return true;
  return (await stat(out).catch(() => undefined))?.isDirectory() ?? false;
}

/** Makes the folder of a file and finds out whether the file can be written there. Returns the undo. */
async function prepareFor(path: string): Promise<() => Promise<void>> {
  const folder = dirname(path);
  const unmake = await makeFolder(folder).catch((error: unknown) => {
    throw fileError('sample', 'make the folder', folder, error);
  });
  try {
    await checkWritable(path);
  } catch (error) {
    await unmake();
    throw error;
  }
  return unmake;
}

const fileName = (name: string): string => name.slice(0, 60).replace(/[^\p{L}\p{N}._-]+/gu, '_');
