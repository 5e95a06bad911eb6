// The card of a model on the Hub: README.md with what was trained, its numbers, its picture, and how to use it.

import { si, small } from '../format.ts';
import { kindNamed } from '../modelKinds/index.ts';
import { printable } from '../printable.ts';
import type { RunConfig } from '../runConfig.ts';

export interface CardFacts {
  readonly name: string;
  readonly config: RunConfig;
  readonly step: number;
  /** Mean loss of the last steps; undefined where there are no metrics. */
  readonly loss?: number;
  readonly picture: boolean;
}

const MOST_CLASSES = 100;

/** Text of others in Markdown: on one line, and no markup. */
const plain = (text: string): string =>
  printable(text).replace(/[\\`*_{}[\]<>()#+!|~&-]/g, (mark) => `&#${mark.charCodeAt(0)};`);

export function modelCard({ name, config, step, loss, picture }: CardFacts): string {
  const { settings, model, kind, diffusion, classNames } = config;
  const { parameters } = kindNamed(kind).costs(model, { batch: settings.batch, precision: settings.precision });
  const rows: [string, string][] = [
    ['model', `${settings.model}, ${si(parameters)} parameters`],
    ['images', `${model.channels} × ${model.imgSize} × ${model.imgSize}`],
    ['classes', model.numClasses > 0 ? String(model.numClasses) : 'none, unconditional'],
    ['steps', `${step.toLocaleString('en-US')} of ${settings.batch} images`],
    ['learning rate', `${settings.lr}, ${settings.schedule}`],
    ['average of the weights', `decay ${settings.ema}`],
    ['process', `${diffusion.diffusionSteps} steps, ${diffusion.noiseSchedule}, predicts ${settings.predict}`],
    ...(loss === undefined ? [] : [['loss, mean of the last 100 steps', small(loss)] as [string, string]]),
  ];
  const shown = classNames.slice(0, MOST_CLASSES).map(plain).join(', ');
  return [
    '---',
    'library_name: dis-webgpu',
    'pipeline_tag: unconditional-image-generation',
    'tags:',
    ...['diffusion', 'state-space-model', 'dis', 'webgpu'].map((tag) => `  - ${tag}`),
    '---',
    '',
    `# ${name}`,
    '',
    'A [DiS](https://arxiv.org/abs/2402.05608), the diffusion model with a state-space backbone, trained with dis-webgpu.',
    '',
    ...(picture ? ['![Samples](samples.png)', ''] : []),
    '| | |',
    '|---|---|',
    ...rows.map(([label, text]) => `| ${label} | ${text} |`),
    '',
    ...(shown === '' ? [] : [`Classes: ${shown}${classNames.length > MOST_CLASSES ? ', …' : ''}`, '']),
    '```sh',
    `npx dis-cli sample hf:${name} --out sheet.png`,
    `npx dis-cli train --init-from hf:${name} --data photos/`,
    '```',
    '',
    'The weights are safetensors under the names of the official code: `ema.safetensors` the moving average, `model.safetensors` the',
    "last step's.",
    '',
  ].join('\n');
}
