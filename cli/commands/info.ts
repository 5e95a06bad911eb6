// `dis-cli info`: what a configuration or a checkpoint costs, from shapes alone; no GPU is opened.

import { Command } from 'commander';
import { UsageError } from '../errors.ts';
import { bytes, grouped, si, significant } from '../format.ts';
import { addModelFlags, modelOfFlags, type DescribedModel, type ModelFlags } from '../modelFlags.ts';
import { kindNamed, type Costs, type Parts } from '../modelKinds/index.ts';
import { choice, flag, integer } from '../options.ts';
import { invocation } from '../invocation.ts';
import { PRESET_NAMES, PRESETS, presetsAbout, presetValues, withPreset, type PresetName } from '../presets.ts';
import { knownSpeeds, type MeasuredSpeed } from '../speed.ts';
import { tuningFolder } from '../tuningCache.ts';
import { print, printable, printableJson } from '../printable.ts';
import { openWeightSource } from '../weightSource.ts';
import { trainDefaults } from './train.ts';

interface InfoOptions extends ModelFlags {
  readonly channels: number;
  readonly classes: number;
  readonly batch: number;
  readonly precision: 'f32' | 'f16';
  readonly preset?: PresetName;
  readonly json?: boolean;
}

export function infoCommand(): Command {
  const command = new Command('info')
    .description('parameters, operations per image and memory of a configuration, or of a run or checkpoint')
    .argument(
      '[folder]',
      'a run, a checkpoint, a .pt or .safetensors file, or hf:OWNER/NAME; without it, the flags describe the model',
    );
  command.addOption(flag('--preset <name>', presetsAbout(), choice(PRESET_NAMES)));
  addModelFlags(command);
  command
    .addOption(flag('--channels <n>', 'channels of the input: 3 for pixels, 4 for latents', integer({ min: 1 }), 3))
    .addOption(flag('--classes <n>', 'number of classes, 0 for an unconditional model', integer({ min: 0 }), 0))
    .addOption(flag('--batch <n>', 'images at once, for the memory', integer({ min: 1 }), 32))
    .addOption(flag('--precision <type>', 'storage of activations', choice(['f32', 'f16']), 'f32'))
    .option('--json', 'print as JSON');
  return command.action(async (folder: string | undefined, asked: InfoOptions) => {
    const given = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
    const options = presetOptions(asked, given);
    const { title, ...described } =
      folder === undefined
        ? {
            title: options.preset === undefined ? options.model : `${options.preset}: ${options.model}`,
            ...modelOfFlags(options, { channels: options.channels, numClasses: options.classes }),
          }
        : await fromFolder(folder, command);
    const costs = kindNamed(described.kind).costs(described.model, options);
    print(
      options.json
        ? printableJson({ kind: described.kind, config: described.model, ...costs }, 2)
        : render(title, described, costs, options),
    );
    if (options.preset !== undefined && !options.json) print(await plan(options.preset, options, costs));
  });
}

/** With the values of the preset where no flag says otherwise. */
function presetOptions(options: InfoOptions, given: (name: string) => boolean): InfoOptions {
  if (options.preset === undefined) return options;
  const { channels, classes } = PRESETS[options.preset];
  return {
    ...withPreset(options, options.preset, given),
    ...(!given('channels') && { channels }),
    ...(!given('classes') && { classes }),
  };
}

/** What a preset's run takes, from what was measured on this machine's adapters. */
async function plan(name: PresetName, { batch, precision, model }: InfoOptions, costs: Costs): Promise<string> {
  const { steps = 1 } = presetValues(name);
  const images = steps * batch;
  const lines = [
    '',
    `The run: ${grouped(steps)} steps of ${grouped(batch)} images, ${si(images)} images, ${si(3 * costs.flopsPerImage.total * images)}FLOP`,
  ];
  const speeds = (await knownSpeeds(tuningFolder())).filter((speed) => speed.precision === precision);
  for (const adapter of new Set(speeds.map((speed) => speed.adapter))) {
    const own = speeds.filter((speed) => speed.adapter === adapter);
    const same = own.find((speed) => speed.parameters === costs.parameters && speed.tokens === costs.tokens);
    // The nearest in operations, of which large models do more a second.
    const far = (speed: MeasuredSpeed): number => Math.abs(Math.log(speed.flopsPerImage / costs.flopsPerImage.total));
    const nearest = same ?? own.reduce((best, speed) => (far(speed) < far(best) ? speed : best));
    const rate = (nearest.imagesPerSecond * nearest.flopsPerImage) / costs.flopsPerImage.total;
    const days = images / rate / 86400;
    lines.push(
      `  on ${printable(adapter)}  ${significant(days)} days in ${precision}, ` +
        (same ? 'measured with this model' : `by operations, from a step of ${printable(nearest.model)}`),
    );
  }
  if (speeds.length === 0)
    lines.push(`  days on this adapter     after ${invocation('tune', '--model', model)} has measured a step`);
  return lines.join('\n');
}

async function fromFolder(folder: string, command: Command): Promise<DescribedModel & { readonly title: string }> {
  const described = command.options.filter((option) => {
    return (
      command.getOptionValueSource(option.attributeName()) === 'cli' &&
      !['batch', 'precision', 'json'].includes(option.attributeName())
    );
  });
  if (described.length > 0)
    throw new UsageError(
      `${described[0].long} describes a model, but ${folder} has its own; leave out one of the two.`,
    );
  const source = await openWeightSource(folder, trainDefaults());
  await source.close();
  const { step, config } = source;
  const at = step === undefined ? 'weights' : `step ${grouped(step)}`;
  return { title: printable(`${config.settings.model}, ${at} of ${folder}`), kind: config.kind, model: config.model };
}

function render(
  title: string,
  { kind, model }: DescribedModel,
  costs: Costs,
  { batch, precision }: InfoOptions,
): string {
  const { flopsPerImage: flops, training, sampling } = costs;
  const share = (n: number): string => `${((100 * n) / flops.total).toFixed(1)} %`.padStart(7);
  const parts = Object.entries(flops)
    .filter(([name]) => name !== 'total')
    .map(([name, n]) => `    ${name.padEnd(12)} ${`${si(n)}FLOP`.padStart(12)} ${share(n as number)}`);
  const memory = (what: string, m: Parts): string[] => [
    `  ${what.padEnd(22)} ${bytes(m.total)}`,
    ...Object.entries(m)
      .filter(([name, n]) => name !== 'total' && n > 0)
      .map(([name, n]) => `    ${name.padEnd(12)} ${bytes(n).padStart(12)}`),
  ];
  return [
    title,
    ...kindNamed(kind)
      .summary(model)
      .map(([label, text]) => `  ${label.padEnd(22)} ${text}`),
    `  parameters             ${grouped(costs.parameters)} (${si(costs.parameters)})`,
    '',
    `Operations of a forward pass, a multiply-add counted as two`,
    `  per image              ${significant(flops.total / 1e9, 4)} GFLOPs`,
    ...parts,
    `  without the scan       ${significant((flops.total - (flops.scan ?? 0)) / 1e9, 4)} GFLOPs`,
    `  per image in training  about ${significant((3 * flops.total) / 1e9, 4)} GFLOPs`,
    '',
    `GPU memory at batch ${batch} in ${precision}, an estimate`,
    ...memory('training', training),
    ...memory('sampling', sampling),
  ].join('\n');
}
