// `dis-cli convert`: a checkpoint of the official train.py becomes the folder of a run, and weights of any origin one
// safetensors file with the official names, which PyTorch reads.

import { existsSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { Command } from 'commander';
import type { Weights } from '../checkpoint.ts';
import { absoluteData, openRunData } from '../data/runData.ts';
import { UsageError } from '../errors.ts';
import { FileError, checkWritable, makeFolder, writeFileAtomic } from '../files.ts';
import { grouped, si } from '../format.ts';
import { importRun, requireRun } from '../importRun.ts';
import { interruptible } from '../interrupt.ts';
import { invocation } from '../invocation.ts';
import { kindNamed } from '../modelKinds/index.ts';
import { officialConfig, withData } from '../officialConfig.ts';
import { choice, flag, text } from '../options.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle } from '../progress.ts';
import type { RunConfig } from '../runConfig.ts';
import { safetensorsPieces } from '../safetensorsFile.ts';
import { openWeightFile, type WeightFile } from '../weightFile.ts';
import { isFile, openWeightSource } from '../weightSource.ts';
import { trainDefaults } from './train.ts';

interface ConvertOptions {
  readonly data?: string;
  readonly weights: Weights;
  readonly quiet?: boolean;
}

export function convertCommand(): Command {
  return new Command('convert')
    .description(
      'a .pt file of the official train.py → the folder of a run, which train --resume goes on with; ' +
        'a run, a checkpoint or a .pt file → one .safetensors file with the official names',
    )
    .argument('<from>', 'a .pt or .safetensors file, a run or a checkpoint')
    .argument('[to]', 'a new folder, or a name that ends in .safetensors (default: runs/NAME of the .pt file)')
    .addOption(
      flag('--data <what>', 'of a run: where its data lie here, as for train; else train --resume is told', text),
    )
    .addOption(
      flag(
        '--weights <which>',
        "of a .safetensors file: ema, the moving average, or model, the last step's",
        choice(['ema', 'model']),
        'ema',
      ),
    )
    .option('-q, --quiet', 'say nothing')
    .action(convert);
}

async function convert(from: string, to: string | undefined, options: ConvertOptions): Promise<void> {
  await interruptible((signal) =>
    to !== undefined && extname(to).toLowerCase() === '.safetensors'
      ? toSafetensors(from, to, options, signal)
      : toRun(from, to, options, signal),
  );
}

async function toRun(
  from: string,
  to: string | undefined,
  { data, quiet = false }: ConvertOptions,
  signal: AbortSignal,
): Promise<void> {
  if (!existsSync(from))
    throw new FileError('convert', `${from} does not exist`, {
      path: from,
      expected: 'a .pt file',
      remedy: 'check the path',
    });
  if (!(await isFile(from)))
    throw new UsageError(
      `${from} is no file: a run's folder needs no conversion; to make one file of its weights, end the second name ` +
        'in .safetensors.',
    );
  const file = await openWeightFile(from);
  try {
    requireRun(file);
    const config = await configOf(file, data, signal);
    const out = to ?? join('runs', basename(from, extname(from)));
    const folder = await importRun(file, config, out, { signal, style: quiet ? 'none' : defaultStyle('lines') });
    await folder.close();
    if (quiet) return;
    print(printable(`${summary(file, config)} → ${folder.shown}`));
    for (const note of notes(file)) print(printable(note));
    const where = config.official ? ['--data', 'FOLDER'] : [];
    print(printable(`Go on with ${invocation('train', '--resume', folder.shown, ...where)}`));
  } finally {
    await file.close();
  }
}

async function configOf(file: WeightFile, data: string | undefined, signal: AbortSignal): Promise<RunConfig> {
  const config = officialConfig(file, file.path, trainDefaults());
  if (data === undefined) return config;
  const settings = { ...config.settings, data: absoluteData(data) };
  return withData({ ...config, settings }, await openRunData(settings, signal));
}

function summary(file: WeightFile, { kind, model, settings }: RunConfig): string {
  const { parameters } = kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision });
  return `${basename(file.path)}: ${settings.model}, ${si(parameters)} parameters, step ${grouped(file.optimizer?.step ?? 0)}`;
}

/** What of the official run doesn't go on as it was. */
function notes({ args, config }: WeightFile): string[] {
  const found: string[] = [];
  if (typeof args.accum_iter === 'number' && args.accum_iter > 1)
    found.push(
      `--accum_iter ${args.accum_iter} is left out: the official code takes a step at every micro-batch all the same, ` +
        'with gradients that pile up.',
    );
  const named =
    typeof args.image_size === 'number' ? args.image_size / (args.latent_space === true ? 8 : 1) : undefined;
  if (named !== undefined && named !== config.imgSize)
    found.push(`Its arguments speak of images of ${named}, its weights are for ${config.imgSize}; the weights decide.`);
  return found;
}

async function toSafetensors(
  from: string,
  to: string,
  { data, weights, quiet = false }: ConvertOptions,
  signal: AbortSignal,
): Promise<void> {
  if (data !== undefined) throw new UsageError('--data is of a run, and a .safetensors file is none; leave it out.');
  const source = await openWeightSource(from, trainDefaults());
  const unmake = await makeFolder(dirname(to));
  try {
    await checkWritable(to);
    await source.check(weights);
    const entries = await source.read(weights);
    signal.throwIfAborted();
    const metadata = { format: 'pt', ...(source.step !== undefined && { step: String(source.step) }) };
    await writeFileAtomic(to, safetensorsPieces(entries, metadata));
    if (!quiet) print(printable(`Wrote ${to}: ${entries.size} tensors of ${source.title}.`));
  } finally {
    await unmake();
    await source.close();
  }
}
