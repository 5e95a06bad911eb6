// `dis-cli train-vae`: an autoencoder for latent diffusion, trained on the user's pictures.

import { Command } from 'commander';
import { holdOut } from '../../models/data/subset.ts';
import { vaeParameterCount } from '../../models/vae/index.ts';
import { openData, type OpenedData } from '../data/openData.ts';
import { absoluteData, dataName } from '../data/runData.ts';
import { EXIT, UsageError } from '../errors.ts';
import { counted, grouped, si } from '../format.ts';
import { catchInterrupt } from '../interrupt.ts';
import { invocation } from '../invocation.ts';
import { adapterFlags, adapterLabel, openCliDevice, type AdapterOptions } from '../openCliDevice.ts';
import { choice, flag, integer, list, number, probability, text } from '../options.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle, say, type ProgressStyle } from '../progress.ts';
import { createRun, locateCheckpoint, openRun } from '../runFolder.ts';
import { skipReporter } from '../skipReporter.ts';
import { loadRunTuning, loadTuning, storeTuning } from '../tuningCache.ts';
import { readVaeRun, trainVae, vaeOf, type VaeRunConfig } from '../vaeRun.ts';

type Settings = VaeRunConfig['settings'];
type Plan = VaeRunConfig['plan'];

interface TrainVaeOptions extends Omit<Settings, 'data' | 'scheduleSteps' | 'flip'>, Plan, AdapterOptions {
  readonly data?: string;
  readonly flip?: boolean;
  readonly out?: string;
  readonly resume?: string;
  readonly progress: 'auto' | ProgressStyle;
}

/** Flags that a resumed run may give anew. */
const PLAN = ['steps', 'checkpointEvery', 'keep', 'sampleEvery'] as const satisfies readonly (keyof Plan)[];

export function trainVaeCommand(): Command {
  const command = new Command('train-vae')
    .description(
      'train an autoencoder (AutoencoderKL) for latent diffusion; checkpoints are folders as diffusers has them. ' +
        'The loss is L1, the differences of neighbouring pixels at three scales, a perceptual term and the divergence of the latents',
    )
    .optionsGroup('Data:')
    .addOption(flag('--data <what>', 'as of train: shapes, a folder, a ZIP file, CIFAR or IDX files', text))
    .addOption(flag('--image-size <pixels>', 'side of the square pictures', integer({ min: 1, max: 8192 }), 64))
    .option('--flip', 'mirror half of the pictures, another half each epoch')
    .addOption(flag('--background <colour>', 'what shines through transparent pixels', text))
    .addOption(flag('--held-out <n>', 'pictures that are kept apart to measure with', integer({ min: 1 }), 256))
    .optionsGroup('Model:')
    .addOption(
      flag(
        '--widths <list>',
        'channels of the blocks; each but the last halves the edges',
        list(integer({ min: 1, max: 65536 })),
        [64, 128, 128],
      ),
    )
    .addOption(flag('--layers <n>', 'residual blocks in each block of the encoder', integer({ min: 1, max: 64 }), 1))
    .addOption(flag('--groups <n>', 'groups of the norms', integer({ min: 1, max: 65536 }), 32))
    .addOption(flag('--latent-channels <n>', 'channels of the latents', integer({ min: 1, max: 1024 }), 4))
    .optionsGroup('Optimization:')
    .addOption(flag('--batch <n>', 'pictures in a step', integer({ min: 1, max: 2 ** 20 }), 32))
    .addOption(flag('--lr <rate>', 'learning rate; it falls to 0 along half a cosine', number({ above: 0 }), 5e-4))
    .addOption(flag('--warmup <steps>', 'steps in which the learning rate rises', integer({ min: 0 }), 100))
    .addOption(flag('--ema <decay>', 'decay of the moving average of the weights', probability(), 0.999))
    .addOption(
      flag('--kl-weight <w>', 'of the divergence of the latents from N(0, 1)', number({ min: 0, max: 1e6 }), 1e-6),
    )
    .addOption(flag('--edge-weight <w>', 'of differences of neighbouring pixels', number({ min: 0, max: 1e6 }), 0.5))
    .addOption(
      flag(
        '--perceptual <network>',
        'classifier: features of a small network that is trained on drawn shapes first; none',
        choice(['none', 'classifier']),
        'none',
      ),
    )
    .addOption(flag('--perceptual-weight <w>', 'of the perceptual term', number({ min: 0, max: 1e6 }), 0.1))
    .addOption(flag('--precision <type>', 'f32, or f16 with f32 masters', choice(['f32', 'f16']), 'f32'))
    .addOption(flag('--seed <n>', 'determines everything that is random', integer({ min: 0 }), 0))
    .optionsGroup('Run (may change when it is resumed):')
    .addOption(flag('--steps <n>', 'go on until this step', integer({ min: 1 }), 10_000))
    .addOption(flag('--checkpoint-every <steps>', '0: only at the end', integer({ min: 0 }), 1000))
    .addOption(flag('--keep <n>', 'newest checkpoints to keep; 0: all', integer({ min: 0 }), 2))
    .addOption(
      flag(
        '--sample-every <steps>',
        'write originals and reconstructions; 0: with checkpoints',
        integer({ min: 0 }),
        500,
      ),
    )
    .addOption(flag('--out <folder>', 'folder of the run (default: runs/DATA-vae)', text))
    .addOption(flag('--resume <folder>', 'go on with a run, bit for bit', text))
    .addOption(
      flag(
        '--progress <style>',
        'auto, bar, lines, json or none',
        choice(['auto', 'bar', 'lines', 'json', 'none']),
        'auto',
      ),
    )
    .optionsGroup('Adapter:');
  for (const option of adapterFlags()) command.addOption(option);
  return command.action(async (options: TrainVaeOptions) => {
    await train(options, (name) => command.getOptionValueSource(name) === 'cli');
  });
}

/** The data with pictures kept apart. */
async function openVaeData(settings: Settings, signal: AbortSignal): Promise<OpenedData> {
  const { data, imageSize, background, batch, heldOut } = settings;
  return openData(data, {
    size: imageSize,
    background,
    unlabelled: true,
    minImages: batch + heldOut,
    onSkip: skipReporter(),
    onNotice: say,
    signal,
  });
}

/** Settings and plan of a new run, or of the one that goes on. */
async function configOf(
  options: TrainVaeOptions,
  given: (name: string) => boolean,
): Promise<Omit<VaeRunConfig, 'channels' | 'dataFingerprint'>> {
  if (options.resume !== undefined) {
    const { run } = await locateCheckpoint(options.resume);
    if (run === undefined) throw new UsageError(`${options.resume} is outside of a run; give the folder of the run.`);
    const before = await readVaeRun(run);
    const other = Object.keys(before.settings).find((name) => name !== 'data' && given(name));
    if (other !== undefined)
      throw new UsageError(
        `A resumed run keeps its settings; leave --${other.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)} out.`,
      );
    const changed = Object.fromEntries(PLAN.filter(given).map((name) => [name, options[name]]));
    return {
      ...before,
      settings: { ...before.settings, ...(options.data !== undefined && { data: absoluteData(options.data) }) },
      plan: { ...before.plan, ...changed },
    };
  }
  if (options.data === undefined)
    throw new UsageError('What to train on is missing; give --data a folder of pictures, or --resume a run.');
  const { imageSize, background, widths, layers, groups, latentChannels, batch, lr, ema } = options;
  const warmup = given('warmup') ? options.warmup : Math.min(options.warmup, Math.floor(options.steps / 10));
  const { klWeight, edgeWeight, perceptual, perceptualWeight, heldOut, precision, seed, steps } = options;
  return {
    format: 'dis-vae-run',
    version: 1,
    settings: {
      ...{
        data: absoluteData(options.data),
        imageSize,
        background,
        flip: options.flip ?? false,
        widths,
        layers,
        groups,
      },
      ...{ latentChannels, batch, lr, warmup, ema, klWeight, edgeWeight, perceptual, perceptualWeight, heldOut },
      ...{ precision, seed, scheduleSteps: steps },
    },
    plan: { steps, checkpointEvery: options.checkpointEvery, keep: options.keep, sampleEvery: options.sampleEvery },
  };
}

async function train(options: TrainVaeOptions, given: (name: string) => boolean): Promise<void> {
  const style = options.progress === 'auto' ? defaultStyle('lines') : options.progress;
  const interrupt = catchInterrupt(() =>
    say('Finishing this step, then writing a checkpoint; Ctrl-C again leaves at once.'),
  );
  const { signal } = interrupt;
  try {
    const wanted = await configOf(options, given);
    const data = await openVaeData(wanted.settings, signal);
    const config: VaeRunConfig = { ...wanted, channels: data.dataset.channels, dataFingerprint: data.fingerprint };
    const vae = vaeOf(config);
    const { rest, heldOut } = holdOut(data.dataset, wanted.settings.heldOut);
    const located = options.resume === undefined ? undefined : await locateCheckpoint(options.resume);
    if (located && (await readVaeRun(located.run!)).dataFingerprint !== data.fingerprint)
      throw new UsageError(`The data in ${wanted.settings.data} is not what the run was begun with.`);
    const folder = located
      ? await openRun(located.run!)
      : await createRun(options.out ?? `runs/${dataName(options.data!)}-vae`);
    try {
      await folder.writeConfig(config);
      using device = await openCliDevice(options);
      // A run that goes on computes with the kernels that it was begun with.
      const against = located && (await loadRunTuning(device, folder.tuning));
      if (against !== undefined) say(against);
      if (!located) {
        await loadTuning(device);
        await storeTuning(device, folder.tuning);
      }
      if (style === 'bar' || style === 'lines') {
        say(`data     ${data.description}; ${counted(heldOut.length, 'picture')} kept apart`);
        say(`model    ${vae.blockOutChannels.join('-')}, ${si(vaeParameterCount(vae))} parameters`);
        say(`adapter  ${adapterLabel(device)}`);
        say(`run      ${folder.shown}`);
      }
      if (wanted.settings.perceptual === 'none' && !located)
        say('There is no perceptual term: the loss is L1, edges and divergence; --perceptual classifier adds one.');
      const outcome = await trainVae({
        device,
        folder,
        config,
        rest,
        heldOut,
        resume: located?.checkpoint,
        style,
        signal,
      });
      if (outcome.result) {
        const { psnr, psnrOfMean, scalingFactor } = outcome.result;
        print(
          printable(
            `PSNR ${psnr.toFixed(2)} dB on ${counted(heldOut.length, 'picture')} that it has not seen ` +
              `(${psnrOfMean.toFixed(2)} dB of their mean squared error); scaling factor ${scalingFactor}.`,
          ),
        );
      }
      if (!outcome.done) {
        say(
          `Stopped at step ${grouped(outcome.step)}; go on with ${invocation('train-vae', '--resume', folder.shown)}`,
        );
        process.exitCode = EXIT.interrupted;
      } else if (style !== 'none')
        say(
          `Done. Encode pictures with ${invocation('encode', '--data', options.data ?? config.settings.data, '--vae', folder.shown)}`,
        );
    } finally {
      await folder.leave();
    }
  } catch (error) {
    if (!signal.aborted || (error as Error)?.name !== 'AbortError') throw error;
    process.exitCode = EXIT.interrupted;
  } finally {
    interrupt.release();
  }
}
