// The data of a training run: opened with the run's settings, and by what name they are known.

import { resolve } from 'node:path';
import { grouped } from '../format.ts';
import { say } from '../progress.ts';
import type { TrainSettings } from '../trainSettings.ts';
import { skipReporter } from '../skipReporter.ts';
import { openData, type OpenedData } from './openData.ts';
import type { PictureIndex } from './pictureIndex.ts';

/** Opens the data that a run's settings name, and says what is skipped on the way. */
export async function openRunData(
  settings: TrainSettings,
  signal: AbortSignal,
  known?: PictureIndex,
): Promise<OpenedData> {
  const { data, imageSize, unlabelled, background, cifarLabels, split, batch, vae } = settings;
  const online = vae?.online;
  const opened = await openData(data, {
    size: imageSize * (online?.factor ?? 1),
    unlabelled,
    background,
    cifarLabels,
    split,
    channels: online?.inChannels ?? settings.channels,
    minImages: batch,
    known,
    onSkip: skipReporter(),
    onNotice: say,
    onRetry: (path, why) => say(`Cannot read ${path}: ${why}; trying again.`),
    onScan: scanReporter(),
    signal,
  });
  if (!online) return opened;
  const latents = { size: imageSize, channels: online.latentChannels };
  const description = `${opened.description}; as ${latents.channels}x${imageSize}x${imageSize} latents of ${vae.folder}`;
  return { ...opened, latents, description };
}

/** Says how far the look at the pictures is, where that takes long. */
function scanReporter(): (done: number, total: number) => void {
  let told = performance.now();
  return (done, total) => {
    if (performance.now() - told < 10_000) return;
    told = performance.now();
    say(`Looked into ${grouped(done)} of ${grouped(total)} pictures.`);
  };
}

/** A folder by its absolute path, so that the run can be resumed from anywhere. */
export function absoluteData(spec: string): string {
  if (spec === 'shapes') return spec;
  const path = pathOfData(spec);
  return spec.slice(0, spec.length - path.length) + resolve(path);
}

/** The path in what `--data` names. */
export function pathOfData(spec: string): string {
  return /^(?:cifar10:|cifar100:|idx:|folder:|zip:|latents:)?(.*)$/s.exec(spec)![1];
}

/** A word for the data in the run's folder name. */
export function dataName(spec: string): string {
  const last =
    absoluteData(spec)
      .split(/[/\\:]/)
      .filter(Boolean)
      .at(-1) ?? 'data';
  return last
    .toLowerCase()
    .replace(/\.zip$/, '')
    .replace(/[^\p{L}\p{N}._-]+/gu, '-');
}
