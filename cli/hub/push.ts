// A run's newest checkpoint as a repository of the Hub: weights, configuration, step, a card with numbers and a picture.
// What says where files lie on this machine stays here.

import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkWeights, readRunConfig } from '../checkpoint.ts';
import { UsageError } from '../errors.ts';
import { lastLosses } from '../metricsTail.ts';
import { Progress, type ProgressStyle } from '../progress.ts';
import type { RunConfig } from '../runConfig.ts';
import { locateCheckpoint } from '../runFolder.ts';
import { modelCard } from './card.ts';
import { asking, type HubAccess } from './client.ts';

export interface PushOptions {
  /** Also the optimizer's state, from which training goes on. */
  readonly optimizer?: boolean;
  /** A repository that is made is private without. */
  readonly public?: boolean;
  readonly style: ProgressStyle;
  readonly signal: AbortSignal;
}

/** @returns the address of the repository */
export async function push(access: HubAccess, name: string, path: string, options: PushOptions): Promise<string> {
  const { hub, ...rest } = access;
  const { accessToken } = access;
  if (accessToken === undefined)
    throw new UsageError('Pushing needs a token of the Hub; set HF_TOKEN, or log in with `hf auth login`.');
  const { run, checkpoint } = await locateCheckpoint(path);
  const config = await readRunConfig(checkpoint.path);
  const parts = ['model', 'ema', ...(options.optimizer ? ['optimizer'] : [])];
  for (const part of ['model', 'ema'] as const) await checkWeights(checkpoint.path, config, part);
  const picture = run === undefined ? undefined : await newestSheet(join(run, 'samples'));
  const loss = run === undefined ? undefined : await lastLosses(join(run, 'metrics.jsonl'), checkpoint.step, 100);
  const card = modelCard({ name, config, step: checkpoint.step, loss, picture: picture !== undefined });
  const text = (content: string): Blob => new Blob([content]);
  const file = (from: string): URL => pathToFileURL(from);
  const files = [
    { path: 'config.json', content: text(`${JSON.stringify(published(config), null, 2)}\n`) },
    { path: 'README.md', content: text(card) },
    { path: 'state.json', content: file(join(checkpoint.path, 'state.json')) },
    ...parts.map((part) => ({
      path: `${part}.safetensors`,
      content: file(join(checkpoint.path, `${part}.safetensors`)),
    })),
    ...(picture === undefined ? [] : [{ path: 'samples.png', content: file(picture) }]),
  ];
  const repo = { type: 'model', name } as const;
  await asking(access, 'the token', () => hub.whoAmI({ ...rest, accessToken }));
  if (!(await asking(access, name, () => hub.repoExists({ repo, ...rest }))))
    await asking(access, `making ${name}`, () =>
      hub.createRepo({ repo, visibility: options.public ? 'public' : 'private', ...rest, accessToken }),
    );
  const progress = new Progress({ noun: 'file', total: files.length, style: options.style });
  const done = new Set<string>();
  try {
    await asking(access, `writing to ${name}`, async () => {
      const events = hub.uploadFilesWithProgress({
        repo,
        files,
        commitTitle: `Step ${checkpoint.step}`,
        abortSignal: options.signal,
        useXet: false,
        ...rest,
      });
      for await (const event of events)
        if (event.event === 'fileProgress' && event.state === 'uploading' && event.progress === 1) {
          done.add(event.path);
          progress.update({ step: done.size });
        }
    });
  } finally {
    progress.end();
  }
  return `${access.hubUrl}/${name}`;
}

/** A configuration without paths of this machine. */
function published(config: RunConfig): RunConfig {
  const { initFrom, ...settings } = config.settings;
  return {
    ...config,
    settings: {
      ...settings,
      data: basename(settings.data),
      ...(initFrom !== undefined && { initFrom: /^hf:/.test(initFrom) ? initFrom : basename(initFrom) }),
    },
  };
}

async function newestSheet(folder: string): Promise<string | undefined> {
  const names = (await readdir(folder).catch(() => [])).filter((each) => /^step-\d{8,}\.png$/.test(each)).sort();
  const last = names.at(-1);
  if (last === undefined) return undefined;
  const path = join(folder, last);
  return (await stat(path)).isFile() ? path : undefined;
}
