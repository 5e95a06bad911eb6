// `dis-cli tune`: measures which configurations of the kernels are fastest on this adapter for a training step of a
// model, and remembers them for every command that runs here. `train` does the same by itself on a GPU, as far as no
// table answers that comes with the engine.

import { Command } from 'commander';
import { counted, significant } from '../format.ts';
import { catchInterrupt } from '../interrupt.ts';
import { addModelFlags, modelOfFlags, type ModelFlags } from '../modelFlags.ts';
import { adapterFlags, adapterLabel, openCliDevice, type AdapterOptions } from '../openCliDevice.ts';
import { choice, flag, integer } from '../options.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle, Progress, say } from '../progress.ts';
import { tuningOf } from '../../core/index.ts';
import { kindNamed } from '../modelKinds/index.ts';
import { storeSpeed } from '../speed.ts';
import { describeTuning, loadTuning, storeTuning, timeStep, tuneStep, tuningPath } from '../tuningCache.ts';

interface TuneCommandOptions extends ModelFlags, AdapterOptions {
  readonly channels: number;
  readonly classes: number;
  readonly batch: number;
  readonly microBatches: number;
  readonly precision: 'f32' | 'f16';
  readonly again?: boolean;
}

export function tuneCommand(): Command {
  const command = new Command('tune').description(
    'measure which kernels are fastest on this adapter for a model, and remember them',
  );
  addModelFlags(command);
  command
    .addOption(flag('--channels <n>', 'channels of the input: 3 for pixels, 4 for latents', integer({ min: 1 }), 3))
    .addOption(flag('--classes <n>', 'number of classes, 0 for an unconditional model', integer({ min: 0 }), 10))
    .addOption(flag('--batch <n>', 'images in a step', integer({ min: 1 }), 32))
    .addOption(flag('--micro-batches <n>', 'parts of a step', integer({ min: 1 }), 1))
    .addOption(flag('--precision <type>', 'f32 or f16', choice(['f32', 'f16']), 'f32'))
    .option('--again', 'measure also what is known already');
  for (const option of adapterFlags()) command.addOption(option);
  return command.action(tune);
}

async function tune(options: TuneCommandOptions): Promise<void> {
  const described = modelOfFlags(options, { channels: options.channels, numClasses: options.classes });
  const interrupt = catchInterrupt(() => say('Finishing this measurement, then leaving; Ctrl-C again leaves at once.'));
  using device = await openCliDevice(options);
  const known = options.again ? 0 : await loadTuning(device);
  say(
    `Measuring on ${adapterLabel(device)}${known > 0 ? `; ${counted(known, 'measurement')} ${known === 1 ? 'is' : 'are'} known` : ''}.`,
  );
  if (tuningOf(device).shipped)
    say(`So far what is not measured here comes from the shipped table: ${describeTuning(device).shipped}.`);
  let progress: Progress | undefined;
  try {
    const results = await tuneStep(
      device,
      { ...described, diffusion: { learnSigma: options.learnSigma }, settings: options },
      {
        shipped: true,
        signal: interrupt.signal,
        onResult: (_, done, total) => {
          progress ??= new Progress({ noun: 'kernel', total, style: defaultStyle('lines'), every: 2 });
          progress.update({ step: done });
        },
      },
    );
    progress?.end();
    const width = Math.max(0, ...results.map(({ key }) => key.length));
    for (const { key, ms, heuristicMs, candidates } of results) {
      print(
        `${printable(key.padEnd(width))}  ${significant(ms)} ms, ` +
          `${(heuristicMs / ms).toFixed(2)} times as fast as the rule of thumb; ${candidates} tried`,
      );
    }
    if (results.length > 0) await storeTuning(device);
    if (!interrupt.signal.aborted) {
      const seconds = await timeStep(device, {
        ...described,
        diffusion: { learnSigma: options.learnSigma },
        settings: options,
      });
      const { parameters, tokens, flopsPerImage } = kindNamed(described.kind).costs(described.model, options);
      const { model, precision, batch } = options;
      const imagesPerSecond = batch / seconds;
      await storeSpeed(device, {
        model,
        precision,
        batch,
        tokens,
        parameters,
        imagesPerSecond,
        flopsPerImage: flopsPerImage.total,
      });
      print(
        `A training step of ${batch} images takes ${significant(1000 * seconds)} ms: ${significant(imagesPerSecond)} images a second.`,
      );
    }
    print(
      results.length > 0
        ? `Remembered in ${tuningPath(device)}.`
        : 'Everything was measured before; --again measures anew.',
    );
  } finally {
    progress?.end();
    interrupt.release();
  }
}
