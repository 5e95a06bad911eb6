// `dis-cli train`: begins a run, or goes on with one.

import { Command } from 'commander';
import { CHANNELS } from '../../models/data/channels.ts';
import { MOST_STEPS, NOISE_SCHEDULES } from '../../models/diffusion/schedule.ts';
import { SPLITS } from '../data/split.ts';
import { openRunData } from '../data/runData.ts';
import { EXIT, UsageError } from '../errors.ts';
import { grouped } from '../format.ts';
import { gpuList } from '../distributed/gpus.ts';
import { followRun, type RunNews } from '../distributed/follower.ts';
import { reportFolder } from '../distributed/report.ts';
import type { Joined } from '../distributed/join.ts';
import { RANK_TIMEOUT } from '../distributed/ranks.ts';
import { catchInterrupt, type Interrupt } from '../interrupt.ts';
import { invocation, resumeCommand } from '../invocation.ts';
import { addModelFlags, SHAPES_DEFAULTS, withShapesDefaults } from '../modelFlags.ts';
import { adapterFlags, openCliDevice } from '../openCliDevice.ts';
import { choice, flag, integer, list, number, oneOf, probability, text } from '../options.ts';
import { beginRun, resumeRun } from '../prepareRun.ts';
import { checkPreset, ofPictures, PRESET_NAMES, presetsAbout, presetValues, withPreset } from '../presets.ts';
import { print } from '../printable.ts';
import { separateFromJson, say } from '../progress.ts';
import type { RunFolder } from '../runFolder.ts';
import { StepProfile } from '../stepProfile.ts';
import { styleOf, type FlagName, type Given, type TrainOptions } from '../trainOptions.ts';
import { EVAL_METRICS, EVAL_NETWORKS, POSTERIORS } from '../trainSettings.ts';
import { trainRun } from '../trainRun.ts';

export function trainCommand(): Command {
  const command = new Command('train')
    .description('train a model; Ctrl-C writes a checkpoint and leaves, a second one leaves at once')
    .optionsGroup('Data:')
    .addOption(
      flag(
        '--data <what>',
        `shapes (drawn, ten classes; --model is then ${SHAPES_DEFAULTS.model} and --image-size ${SHAPES_DEFAULTS.imageSize} by default), ` +
          'a folder or ZIP archive of images or of class folders, a folder of CIFAR-10/100 binary files or of IDX files ' +
          '(MNIST, Fashion-MNIST); with --resume, where the same data lie now',
        text,
      ),
    )
    .addOption(flag('--latents <folder>', 'train on latents that dis-cli encode wrote, instead of --data', text))
    .addOption(
      flag(
        '--vae <folder>',
        "encode the pictures of --data with this autoencoder at each step, and train on the latents; --image-size is the pictures'; " +
          'with --resume, where the same autoencoder lies now',
        text,
      ),
    )
    .addOption(
      flag(
        '--posterior <which>',
        'with --vae: sample, latents drawn anew each time, or mode, the most likely ones',
        choice(POSTERIORS),
        'sample',
      ),
    )
    .option('--unlabelled', 'take no notice of classes')
    .option('--flip', 'mirror half of the images, another half each epoch')
    .addOption(
      flag(
        '--background <colour>',
        'what shines through transparent pixels (default: nothing, their stored colour stays)',
        text,
      ),
    )
    .addOption(
      flag(
        '--channels <n>',
        '1: grey, 3: colour, 4: colour with transparency (default: what the data have)',
        oneOf(CHANNELS),
      ),
    )
    .addOption(flag('--split <which>', 'train or test, of CIFAR and IDX files and of shapes', choice(SPLITS), 'train'))
    .addOption(flag('--cifar-labels <which>', 'which classes of CIFAR-100', choice(['fine', 'coarse']), 'fine'))
    .optionsGroup('Model:')
    .addOption(flag('--preset <name>', presetsAbout(), choice(PRESET_NAMES)));
  addModelFlags(command);
  command
    .optionsGroup('Diffusion:')
    .addOption(flag('--diffusion-steps <n>', 'steps of the process', integer({ min: 1, max: MOST_STEPS }), 1000))
    .addOption(flag('--noise-schedule <name>', NOISE_SCHEDULES.join(', '), choice(NOISE_SCHEDULES), 'linear'))
    .addOption(
      flag(
        '--predict <what>',
        'what the model estimates: epsilon (the noise) or xstart (the image)',
        choice(['epsilon', 'xstart']),
        'epsilon',
      ),
    )
    .option('--sigma-small', 'with --no-learn-sigma: the posterior variance instead of beta')
    .addOption(
      flag(
        '--loss <kind>',
        "mse, rescaled-mse (of the variance's term), rescaled-kl (variational bound)",
        choice(['mse', 'rescaled-mse', 'rescaled-kl']),
        'mse',
      ),
    )
    .addOption(
      flag(
        '--timestep-sampler <kind>',
        'uniform or loss-second-moment',
        choice(['uniform', 'loss-second-moment']),
        'uniform',
      ),
    )
    .optionsGroup('Optimization:')
    .addOption(flag('--batch <n>', 'images in a step', integer({ min: 1 }), 32))
    .addOption(
      flag(
        '--micro-batches <n>',
        'compute a step in so many parts, for less memory; the result is the same',
        integer({ min: 1 }),
        1,
      ),
    )
    .addOption(flag('--lr <rate>', 'learning rate', number({ above: 0 }), 1e-4))
    .addOption(flag('--schedule <kind>', 'constant or cosine', choice(['constant', 'cosine']), 'constant'))
    .addOption(flag('--warmup <steps>', 'steps in which the learning rate rises', integer({ min: 0 }), 0))
    .addOption(flag('--min-lr <rate>', 'where the cosine ends', number({ min: 0 }), 0))
    .addOption(
      flag(
        '--schedule-steps <n>',
        "steps that the cosine takes (default: --steps of the run's begin)",
        integer({ min: 1 }),
      ),
    )
    .addOption(flag('--betas <b1,b2>', 'of AdamW', list(probability(), { length: 2 }), [0.9, 0.999]))
    .addOption(flag('--weight-decay <w>', 'decoupled weight decay', number({ min: 0 }), 0))
    .addOption(flag('--clip <norm>', 'clip the gradient to this norm; 0: never', number({ min: 0 }), 1))
    .addOption(flag('--ema <decay>', 'decay of the moving average of the weights', probability(), 0.9999))
    .option(
      '--no-ema-warmup',
      'keep the decay constant, as the official code does; else it is (1 + step) / (10 + step) until it reaches --ema',
    )
    .addOption(
      flag(
        '--precision <type>',
        'f32, or f16 for activations and weights with f32 masters',
        choice(['f32', 'f16']),
        'f32',
      ),
    )
    .addOption(flag('--seed <n>', 'determines everything that is random', integer({ min: 0 }), 0))
    .optionsGroup('Run (may change when it is resumed):')
    .addOption(flag('--steps <n>', 'go on until this step', integer({ min: 1 }), 100_000))
    .addOption(flag('--epochs <n>', 'the same in passes over the data', integer({ min: 1 })).conflicts('steps'))
    .addOption(flag('--checkpoint-every <steps>', '0: only at the end', integer({ min: 0 }), 1000))
    .addOption(flag('--keep <n>', 'newest checkpoints to keep; 0: all', integer({ min: 0 }), 3))
    .addOption(
      flag(
        '--sample-every <steps>',
        'write a sheet of samples of the averaged weights; 0: never',
        integer({ min: 0 }),
        1000,
      ),
    )
    .addOption(flag('--sample-steps <n>', 'DDIM steps for a sheet and an evaluation', integer({ min: 1 }), 50))
    .addOption(
      flag(
        '--eval-every <steps>',
        'measure samples of the averaged weights against the data, and keep the best checkpoint; 0: never',
        integer({ min: 0 }),
        0,
      ),
    )
    .addOption(flag('--eval-metric <name>', 'fd: Fréchet distance; kid: kernel distance', choice(EVAL_METRICS), 'fd'))
    .addOption(flag('--eval-samples <n>', 'samples of an evaluation', integer({ min: 20 }), 1000))
    .addOption(
      flag(
        '--eval-network <name>',
        'classifier: trained on the data when it is first needed; nsfwjs: from node_modules',
        choice(EVAL_NETWORKS),
        'classifier',
      ),
    )
    .addOption(flag('--guidance <scale>', 'classifier-free guidance for a sheet; 1: none', number({ min: 0 }), 1.5))
    .addOption(flag('--out <folder>', 'folder of the run (default: runs/DATA-MODEL)', text))
    .option(
      '--resume [folder]',
      'go on with a run, bit for bit; without a folder, with that of --out; or with a .pt file of the official train.py',
    )
    .addOption(
      flag(
        '--init-from <path>',
        'begin with the averaged weights of a run, a checkpoint, a .pt or .safetensors file, or hf:OWNER/NAME; the model is theirs ' +
          'where no flag says otherwise',
        text,
      ),
    )
    .addOption(
      flag(
        '--progress <style>',
        'auto, bar, lines, json or none',
        choice(['auto', 'bar', 'lines', 'json', 'none']),
        'auto',
      ),
    )
    .option('-q, --quiet', 'the same as --progress none')
    .addOption(
      flag(
        '--profile <file>',
        'measure a few steps: a Chrome trace of their kernels in this file, and a table at the end',
        text,
      ),
    )
    .optionsGroup('Several GPUs (Open MPI):')
    .addOption(
      flag(
        '--gpus <n or list>',
        'train on so many GPUs of this machine, or on these: 0,2; --batch is that of all',
        gpuList,
      ),
    )
    .addOption(
      flag(
        '--sync-every <steps>',
        'for slow networks: each rank trains so many steps by itself, then all meet (DiLoCo); the result is another',
        integer({ min: 1 }),
      ),
    )
    .option('--oversubscribe', 'let ranks share an adapter')
    .addOption(
      flag(
        '--max-restarts <n>',
        'with --gpus: go on so many times with the GPUs that are left',
        integer({ min: 0 }),
        3,
      ),
    )
    .addOption(
      flag(
        '--rank-timeout <seconds>',
        'end the ranks when one of them gives no sign of life for so long',
        number({ min: 1, max: 86_400 }),
        RANK_TIMEOUT,
      ),
    )
    .option('--distributed', 'this process is a rank that mpirun has started')
    .optionsGroup('Adapter:');
  for (const option of adapterFlags()) command.addOption(option);
  return command.action(async (asked: TrainOptions) => {
    // A flag that is not given says nothing, whatever its default; a preset gives its values.
    const typed = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
    const { preset } = asked;
    if (preset !== undefined) {
      if (asked.resume !== undefined)
        throw new UsageError('A resumed run keeps its settings; leave --preset out, or begin a new run.');
      checkPreset(preset, asked);
    }
    const chosen = withPreset(asked, preset, (name) => typed(name) || (name === 'steps' && typed('epochs')));
    const options = preset === undefined || typed('imageSize') ? chosen : ofPictures(chosen, preset);
    const given = (name: string): boolean =>
      typed(name) || (preset !== undefined && Object.hasOwn(presetValues(preset), name));
    const flagName: FlagName = (name) =>
      command.options.find((option) => option.attributeName() === name)?.long ?? name;
    const settled = options.data === 'shapes' ? withShapesDefaults(options, given) : options;
    if (settled.gpus !== undefined) process.exitCode = await launch(settled);
    else if (settled.distributed) await trainRank(settled, given, flagName);
    else await train(settled, given, flagName);
  });
}

/** What is taken where no flag is given. */
export const trainDefaults = (): TrainOptions => trainCommand().opts<TrainOptions>();

/** Starts the ranks and follows them. */
async function launch(options: TrainOptions): Promise<number> {
  if (options.profile !== undefined) throw new UsageError('--profile measures one GPU; leave --gpus out for it.');
  const { launchRanks } = await import('../distributed/launch.ts');
  return launchRanks({
    gpus: options.gpus!,
    oversubscribe: options.oversubscribe ?? false,
    maxRestarts: options.maxRestarts,
    // The batch of a run that goes on is in its folder.
    ...(options.resume === undefined && { batch: options.batch / options.microBatches }),
    style: styleOf(options),
  });
}

/** One of several ranks: rank 0 has the run's folder and says what the others need. */
async function trainRank(options: TrainOptions, given: Given, flagName: FlagName): Promise<void> {
  const { joinRanks } = await import('../distributed/join.ts');
  const interrupt = catchInterrupt(() => {}, ['SIGUSR2']);
  const { ranks, began, fail } = await joinRanks(options);
  try {
    const { signal } = interrupt;
    if (ranks.rank === 0) await train(options, given, flagName, { ranks, began, interrupt });
    else {
      const { config, place } = await ranks.broadcast<RunNews | null>(null).then(named);
      began(place);
      const data = await openRunData(config.settings, signal);
      if (data.fingerprint !== config.dataFingerprint)
        throw new UsageError(`The data in ${config.settings.data} is not on rank ${ranks.rank} what it is on rank 0.`);
      using device = await openCliDevice(options);
      ranks.polite = device.adapter.software;
      await followRun({ device, ranks, config, data, signal });
      await ranks.leave();
    }
  } catch (error) {
    fail(error);
  }
  // Threads of MPI and of the driver don't survive that Node takes their libraries away one after the other.
  process.exit();
}

/** What rank 0 has told, or that there is nothing to do. */
function named(news: RunNews | null): RunNews {
  if (news === null) process.exit(EXIT.ok);
  return news;
}

async function train(
  options: TrainOptions,
  given: Given,
  flagName: FlagName,
  together?: Pick<Joined, 'ranks' | 'began'> & { readonly interrupt: Interrupt },
): Promise<void> {
  const style = styleOf(options);
  separateFromJson(style);
  const { ranks, began } = together ?? {};
  const interrupt =
    together?.interrupt ??
    catchInterrupt(() => say('Finishing this step, then writing a checkpoint; Ctrl-C again leaves at once.'));
  try {
    const { signal } = interrupt;
    const { folder, config, data, resume } =
      options.resume === undefined
        ? await beginRun(options, given, signal)
        : await resumeRun(options, given, flagName, signal);
    try {
      if (resume && resume.step >= config.plan.steps) {
        await ranks?.broadcast(null);
        say(
          `The run has reached step ${grouped(resume.step)} of ${grouped(config.plan.steps)}; give more ` +
            'with --steps to go on.',
        );
        return;
      }
      if (ranks) {
        if (config.settings.batch % (ranks.ranks * config.settings.microBatches) !== 0)
          throw new UsageError(
            `A batch of ${config.settings.batch} can't be divided among ${ranks.ranks} GPUs and ` +
              `${config.settings.microBatches} micro-batches; choose other numbers.`,
          );
        reportFolder(folder.path);
        const place = { path: folder.path, shown: folder.shown };
        began?.(place);
        await ranks.broadcast<RunNews>({ config, start: resume?.step ?? 0, place });
      } else if (signal.aborted) return stopped(undefined);
      using device = await openCliDevice(options);
      const profile =
        options.profile === undefined ? undefined : new StepProfile(device, options.profile, resume?.step ?? 0);
      if (ranks) ranks.polite = device.adapter.software;
      const outcome = await trainRun({ device, folder, config, data, resume, style, signal, profile, ranks });
      await ranks?.leave();
      if (profile && style !== 'none') (style === 'json' ? say : print)(profile.report);
      if (!outcome.done) return stopped(outcome.checkpoint && { step: outcome.checkpoint.step, folder });
      if (style === 'bar' || style === 'lines')
        say(`Done: ${grouped(outcome.step)} steps. Look at samples with ${invocation('sample', folder.shown)}`);
    } finally {
      await folder.leave();
    }
  } catch (error) {
    if (interrupt.signal.aborted && (error as Error)?.name === 'AbortError') return stopped(undefined);
    throw error;
  } finally {
    interrupt.release();
  }

  function stopped(at: { step: number; folder: RunFolder } | undefined): void {
    say(
      at
        ? `Stopped at step ${grouped(at.step)}, which is in a checkpoint; go on with ${resumeCommand(at.folder)}`
        : 'Stopped before the first step.',
    );
    // The launcher knows that it was interrupted; to mpirun a status would be a failure.
    process.exitCode = ranks ? EXIT.ok : EXIT.interrupted;
  }
}
