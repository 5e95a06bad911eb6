// `dis-cli info`: what a configuration or a checkpoint costs, from shapes alone; no GPU is opened.

import { Command } from 'commander';
import { UsageError } from '../errors.ts';
import { bytes, grouped, si, significant } from '../format.ts';
import { addModelFlags, modelOfFlags, type DescribedModel, type ModelFlags } from '../modelFlags.ts';
import { kindNamed, type Costs, type Parts } from '../modelKinds/index.ts';
import { choice, flag, integer } from '../options.ts';
import { print, printable, printableJson } from '../printable.ts';
import { openWeightSource } from '../weightSource.ts';
import { trainDefaults } from './train.ts';

interface InfoOptions extends ModelFlags {
  readonly channels: number;
  readonly classes: number;
  readonly batch: number;
  readonly precision: 'f32' | 'f16';
  readonly json?: boolean;
}

export function infoCommand(): Command {
  const command = new Command('info')
    .description('parameters, operations per image and memory of a configuration, or of a run or checkpoint')
    .argument(
      '[folder]',
      'a run, a checkpoint, or a .pt or .safetensors file; without it, the flags describe the model',
    );
  addModelFlags(command);
  command
    .addOption(flag('--channels <n>', 'channels of the input: 3 for pixels, 4 for latents', integer({ min: 1 }), 3))
    .addOption(flag('--classes <n>', 'number of classes, 0 for an unconditional model', integer({ min: 0 }), 0))
    .addOption(flag('--batch <n>', 'images at once, for the memory', integer({ min: 1 }), 32))
    .addOption(flag('--precision <type>', 'storage of activations', choice(['f32', 'f16']), 'f32'))
    .option('--json', 'print as JSON');
  return command.action(async (folder: string | undefined, options: InfoOptions) => {
    const { title, ...described } =
      folder === undefined
        ? {
            title: options.model,
            ...modelOfFlags(options, { channels: options.channels, numClasses: options.classes }),
          }
        : await fromFolder(folder, command);
    const costs = kindNamed(described.kind).costs(described.model, options);
    print(
      options.json
        ? printableJson({ kind: described.kind, config: described.model, ...costs }, 2)
        : render(title, described, costs, options),
    );
  });
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
    `  per image in training  about ${significant((3 * flops.total) / 1e9, 4)} GFLOPs`,
    '',
    `GPU memory at batch ${batch} in ${precision}, an estimate`,
    ...memory('training', training),
    ...memory('sampling', sampling),
  ].join('\n');
}
