// Runs dis-cli as a process of its own, and makes folders for it.

import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { run } from '../../cli/program.ts';

const CLI = fileURLToPath(new URL('../../cli/dis-cli.mjs', import.meta.url));

export interface Ran {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly done: Promise<Ran>;
  /** What was written to stderr so far. */
  err(): string;
}

/** Starts a command in `cwd`. */
export function start(cwd: string, ...args: readonly string[]): Running {
  const child = spawn(process.execPath, [CLI, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DIS_CACHE_DIR: join(cwd, 'cache') },
  });
  let out = '',
    err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const done = new Promise<Ran>((resolve) =>
    child.on('close', (status, signal) => resolve({ status, signal, out, err })),
  );
  return { child, done, err: () => err };
}

/** Runs a command to its end. */
export function cli(cwd: string, ...args: readonly string[]): Promise<Ran> {
  return start(cwd, ...args).done;
}

/** Runs a command that is to succeed. */
export async function succeed(cwd: string, ...args: readonly string[]): Promise<Ran> {
  const ran = await cli(cwd, ...args);
  assert.is(
    ran.status,
    0,
    `dis-cli ${args.join(' ')} ended with ${ran.signal ?? `status ${ran.status}`}:\n${ran.out}${ran.err}`,
  );
  return ran;
}

/** Runs a command that is to fail with one sentence, and returns it. In this process, for speed: what fails early costs little then. */
export async function refuse(cwd: string, status: number, ...args: readonly string[]): Promise<string> {
  const ran = await here(cwd, args);
  assert.is(ran.status, status, `dis-cli ${args.join(' ')} ended with status ${ran.status}:\n${ran.out}${ran.err}`);
  assert.is(ran.out, '', 'output of a command that is refused');
  const lines = ran.err.trimEnd().split('\n');
  assert.is(lines.length, 1, `one line is expected:\n${ran.err}`);
  assert.match(lines[0], /^dis-cli: .*[^.]\.$/);
  return lines[0].slice('dis-cli: '.length);
}

async function here(cwd: string, args: readonly string[]): Promise<Pick<Ran, 'status' | 'out' | 'err'>> {
  const text = { out: '', err: '' },
    before = process.cwd();
  const take = (key: 'out' | 'err', stream: NodeJS.WriteStream): (() => void) => {
    const { write } = stream;
    stream.write = ((chunk: string) => {
      text[key] += chunk;
      return true;
    }) as typeof write;
    return () => {
      stream.write = write;
    };
  };
  const restore = [take('out', process.stdout), take('err', process.stderr)];
  process.chdir(cwd);
  try {
    return { status: await run(args), ...text };
  } finally {
    for (const undo of restore) undo();
    process.chdir(before);
    process.exitCode = 0;
  }
}

/** A folder that is gone after the test. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'dis-cli-'));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Waits until `condition` holds; fails when the process ends before. */
export async function until(running: Running, condition: () => boolean | Promise<boolean>): Promise<void> {
  let ended: Ran | undefined;
  void running.done.then((ran) => {
    ended = ran;
  });
  while (!(await condition())) {
    if (ended)
      throw new Error(`The process ended with ${ended.signal ?? `status ${ended.status}`}:\n${ended.out}${ended.err}`);
    await sleep(5);
  }
}

export interface Metric {
  readonly step: number;
  readonly loss: number;
  readonly skipped?: boolean;
}

/** The metrics of a run without what depends on the clock. */
export async function metrics(run: string): Promise<Metric[]> {
  const text = await readFile(join(run, 'metrics.jsonl'), 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const { imagesPerSecond: _, ...rest } = JSON.parse(line) as Metric & { imagesPerSecond: number };
      return rest;
    });
}

export async function checkpoints(run: string): Promise<string[]> {
  return (await readdir(join(run, 'checkpoints'))).sort();
}
