// `dis-cli eval`: how near pictures are to data, as numbers that have the names of their networks.

import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { SAMPLER_NAMES } from '../../models/diffusion/index.ts';
import { SPLITS } from '../data/split.ts';
import { checkGpuOptions, workerFlags } from '../distributed/gpus.ts';
import { endWithLauncher, thisWorker } from '../distributed/workers.ts';
import { Interrupted, UsageError } from '../errors.ts';
import { evalRecord, evalTable, type EvalOutcome } from '../evaluate/evalTable.ts';
import { evaluate, type EvalOptions } from '../evaluate/evaluate.ts';
import { METRICS } from '../evaluate/measures.ts';
import { NETWORKS } from '../evaluate/networks.ts';
import { checkStatisticsName, writeStatistics } from '../evaluate/statisticsFile.ts';
import { checkWritable, makeFolder, writeFileAtomic } from '../files.ts';
import { catchInterrupt } from '../interrupt.ts';
import { adapterFlags, openCliDevice } from '../openCliDevice.ts';
import { choice, flag, integer, list, number, probability, text } from '../options.ts';
import { print } from '../printable.ts';
import { defaultStyle, say } from '../progress.ts';
import { loadTuning } from '../tuningCache.ts';

interface EvalCommandOptions extends Omit<EvalOptions, 'device' | 'signal' | 'style'> {
  readonly out?: string;
  readonly statsOut?: string;
  readonly quiet?: boolean;
  readonly adapter?: string;
  readonly tier: 'stock' | 'fast';
}

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('compare samples of a run, or pictures, with data: Fréchet distance, KID, precision and recall')
    .argument('<what>', "a run or a checkpoint, whose samples are drawn, or pictures as train's --data takes them")
    .argument(
      '[reference]',
      "pictures to compare with, or a file of statistics (.npz, .safetensors); default for a run: its own data's other split",
    )
    .optionsGroup('What:')
    .addOption(flag('--metrics <list>', `of ${METRICS.join(', ')}`, list(choice(METRICS)), ['fd', 'kid', 'pr', 'is']))
    .addOption(
      flag(
        '--network <list>',
        'of classifier (trained here on the data), nsfwjs (npm package), fid (your file); default: classifier for ' +
          'data with classes, else nsfwjs',
        list(choice(NETWORKS)),
      ),
    )
    .addOption(
      flag('--samples <n>', 'pictures that are compared (default: 5,000 of a run, else all)', integer({ min: 2 })),
    )
    .addOption(
      flag('--reference-samples <n>', 'pictures of the reference (default: all, up to 50,000)', integer({ min: 2 })),
    )
    .addOption(
      flag('--split <which>', 'of the reference: train or test (default: test, where there is one)', choice(SPLITS)),
    )
    .addOption(
      flag(
        '--image-size <pixels>',
        'side at which pictures are compared; of a run: its own',
        integer({ min: 4, max: 8192 }),
      ),
    )
    .option('--no-floor', 'leave out the same measures between the two splits of the data')
    .addOption(flag('--bpd-samples <n>', 'pictures of which bits per dimension are computed', integer({ min: 1 }), 256))
    .optionsGroup('Samples of a run:')
    .addOption(flag('--checkpoint <list>', 'last, best, all, or steps separated by commas', text, 'last'))
    .addOption(
      flag('--weights <which>', "ema: the moving average; model: the last step's", choice(['ema', 'model']), 'ema'),
    )
    .addOption(flag('--sampler <name>', SAMPLER_NAMES.join(', '), choice(SAMPLER_NAMES), 'ddim'))
    .addOption(flag('--steps <n>', 'sampling steps (default: 50)', integer({ min: 1 })))
    .addOption(flag('--eta <share>', 'noise that DDIM adds, from 0 to 1', probability({ closed: true }), 0))
    .addOption(flag('--guidance <scale>', 'classifier-free guidance; 1: none', number({ min: 0 }), 1))
    .addOption(flag('--seed <n>', 'other samples for another number', integer({ min: 0 }), 0))
    .addOption(flag('--batch <n>', 'samples at once', integer({ min: 1 }), 32))
    .addOption(flag('--precision <type>', 'f32 or f16', choice(['f32', 'f16']), 'f32'))
    .optionsGroup('Networks:')
    .addOption(flag('--classifier-steps <n>', 'training steps of the classifier', integer({ min: 1 }), 1000))
    .addOption(flag('--nsfwjs <folder>', 'the unpacked npm package nsfwjs (default: the nearest node_modules)', text))
    .addOption(flag('--fid-weights <file>', "FID's InceptionV3: pytorch-fid's .pth, or its safetensors", text))
    .optionsGroup('Where:')
    .addOption(flag('--out <file>', 'write the numbers to a JSON file, too', text))
    .addOption(flag('--stats-out <file>', "the samples' statistics: .npz as pytorch-fid's, or .safetensors", text))
    .addOption(
      flag('--cache <folder>', 'where features and samples are kept (default: beside the data and the run)', text),
    )
    .option('-q, --quiet', 'print the table alone')
    .optionsGroup('Adapter:');
  for (const option of [...workerFlags(), ...adapterFlags()]) command.addOption(option);
  return command.action(evalAction);
}

async function evalAction(what: string, reference: string | undefined, options: EvalCommandOptions): Promise<void> {
  const { out, statsOut, quiet } = options;
  endWithLauncher();
  checkGpuOptions(options);
  const worker = thisWorker();
  if (statsOut !== undefined) checkStatisticsName(statsOut, '--stats-out');
  for (const path of [out, statsOut]) {
    if (path === undefined) continue;
    await makeFolder(resolve(path, '..'));
    await checkWritable(path);
  }
  if (options.cache !== undefined && (await stat(options.cache).catch(() => undefined))?.isDirectory() === false)
    throw new UsageError(`--cache is ${JSON.stringify(options.cache)}, which is a file; expected a folder.`);
  const interrupt = catchInterrupt(() => say('Stopping; the same command goes on from here.'));
  const { signal } = interrupt;
  try {
    using device = await openCliDevice(options);
    await loadTuning(device);
    const style = quiet || worker ? 'none' : defaultStyle('lines');
    const outcomes: EvalOutcome[] = [];
    for await (const outcome of evaluate(what, reference, { ...options, device, signal, style, worker })) {
      print(evalTable(outcome));
      outcomes.push(outcome);
      if (out !== undefined) await writeFileAtomic(out, `${JSON.stringify(outcomes.map(evalRecord), null, 2)}\n`);
    }
    const last = outcomes.at(-1)?.results[0];
    if (statsOut !== undefined && last)
      await writeStatistics(statsOut, last.samples.statistics, last.network.distanceName);
  } catch (error) {
    if (signal.aborted && error === signal.reason) throw new Interrupted();
    throw error;
  } finally {
    interrupt.release();
  }
}
