// npm run bench:peers: the same work by other engines on the same adapter, one process each, in alternation.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { interruption, whole } from '../arguments.ts';
import { Worker } from '../channel.ts';
import { commitOf } from '../git.ts';
import { spreadOf, type Spread } from '../sample.ts';
import { align, quantity } from '../table.ts';
import { Terminal } from '../terminal.ts';
import { ENGINES } from './engine.ts';
import { installPeers } from './install.ts';
import type { Prepared } from './worker.ts';
import { difference, WORKS, type PeerWork } from './works.ts';

interface Options {
  readonly filter?: string;
  readonly rounds: number;
  readonly json?: string;
}

/** One engine's times of one work. */
interface Measured {
  readonly engine: string;
  /** Seconds; null where the results were wrong or there are none. */
  readonly seconds: Spread | null;
  /** Time of this engine over ours, round by round. */
  readonly ratio: Spread | null;
  /** How far its results are from ours, relative to their mean magnitude. */
  readonly difference: number | null;
  readonly problem?: string;
}

interface Row {
  readonly id: string;
  readonly target: number | null;
  readonly engines: readonly Measured[];
}

/** Results further apart than this are not the same numbers; f32 sums of a thousand terms differ by a hundredth of it. */
const TOLERANCE = 1e-2;

/** Engines on the same adapter count for the target; PyTorch on the CPU is another machine. */
const onAdapter = (engine: string): boolean => engine !== 'ours' && engine !== 'PyTorch';

function startWorkers(): Worker[] {
  const worker = fileURLToPath(new URL('./worker.ts', import.meta.url));
  const workers = Object.keys(ENGINES).map(
    (name) => new Worker(name, process.execPath, ['--import', 'tsx', worker, name]),
  );
  for (const python of ['python3', 'python']) {
    try {
      execFileSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore' });
    } catch {
      continue;
    }
    workers.push(new Worker('PyTorch', python, [fileURLToPath(new URL('./torch_worker.py', import.meta.url))]));
    break;
  }
  return workers;
}

async function measureWork(
  work: PeerWork,
  workers: readonly Worker[],
  rounds: number,
  progress: (text: string) => void,
): Promise<Row> {
  const ready: { worker: Worker; prepared: NonNullable<Prepared> }[] = [];
  const out = new Map<string, Measured>();
  const problem = (engine: string, text: string): void => {
    out.set(engine, { engine, seconds: null, ratio: null, difference: null, problem: text });
  };
  for (const worker of workers) {
    progress(`${work.id}: ${worker.name} prepares`);
    try {
      const prepared = await worker.request<Prepared>({
        ask: 'prepare',
        id: work.id,
        kind: work.kind,
        inputs: work.inputs,
      });
      if (prepared) ready.push({ worker, prepared });
    } catch (error) {
      problem(worker.name, error instanceof Error ? error.message.split('\n')[0] : String(error));
    }
  }
  const ours = ready.find(({ worker }) => worker.name === 'ours');
  const seconds = new Map(ready.map(({ worker }) => [worker.name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const { worker } of ready) {
      progress(`${work.id}: round ${round + 1} of ${rounds}, ${worker.name}`);
      seconds.get(worker.name)!.push(await worker.request<number>({ ask: 'time' }));
    }
  }
  for (const { worker, prepared } of ready) {
    const times = seconds.get(worker.name)!;
    const far = ours ? difference(ours.prepared.digests, prepared.digests) : null;
    const ratio = ours ? spreadOf(times.map((t, i) => t / seconds.get('ours')![i])) : null;
    const wrong = far !== null && far > TOLERANCE;
    out.set(worker.name, {
      engine: worker.name,
      seconds: spreadOf(times),
      ratio: wrong ? null : ratio,
      difference: far,
      ...(wrong && { problem: `results differ by ${far.toPrecision(2)}` }),
    });
    await worker.request({ ask: 'dispose' });
  }
  return {
    id: work.id,
    target: work.target ?? null,
    engines: workers.map(({ name }) => out.get(name)).filter((m): m is Measured => m !== undefined),
  };
}

/** Our ratio to the fastest engine on the adapter. */
function best(row: Row): Spread | null {
  const ratios = row.engines.filter((m) => onAdapter(m.engine) && m.ratio).map((m) => m.ratio!);
  return ratios.length ? ratios.reduce((a, b) => (b.median < a.median ? b : a)) : null;
}

function tableOf(rows: readonly Row[], names: readonly string[]): string {
  const cell = (row: Row, name: string): string => {
    const m = row.engines.find((e) => e.engine === name);
    if (!m) return '–';
    if (!m.seconds || (name !== 'ours' && !m.ratio)) return 'failed';
    return name === 'ours'
      ? quantity(m.seconds.median, 's')
      : `${quantity(m.seconds.median, 's')} (${m.ratio!.median.toFixed(1)}×)`;
  };
  const table = align(
    [
      ['', ...names, 'to the fastest', 'spread', 'at least', ''],
      ...rows.map((row) => {
        const ratio = best(row);
        return [
          row.id,
          ...names.map((name) => cell(row, name)),
          ratio ? `${ratio.median.toFixed(2)}×` : '',
          ratio ? `${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)}` : '',
          row.target === null ? '' : `${row.target}×`,
          row.target === null || !ratio ? '' : ratio.median >= row.target ? 'met' : 'missed',
        ];
      }),
    ],
    1,
  );
  const problems = rows.flatMap((row) =>
    row.engines.filter((m) => m.problem).map((m) => `${row.id}, ${m.engine}: ${m.problem}`),
  );
  return problems.length ? `${table}\n\n${problems.join('\n')}` : table;
}

async function main(): Promise<void> {
  const { filter, rounds, json } = new Command('npm run bench:peers --')
    .description('Does the same work with TensorFlow.js, jax-js, onnxruntime-web and, where it is installed, PyTorch.')
    .option('--filter <text>', 'only works whose name contains this')
    .option('--rounds <count>', 'how often the engines take turns', whole, 5)
    .option('--json <file>', 'write the result')
    .helpOption('-h, --help', 'show this')
    .parse()
    .opts<Options>();
  const terminal = new Terminal();
  terminal.progress('installing the other engines');
  await installPeers();
  const workers = startWorkers();
  try {
    const engines: { name: string; version: string; adapter: string }[] = [];
    for (const worker of [...workers]) {
      try {
        engines.push({
          name: worker.name,
          ...(await worker.request<{ version: string; adapter: string }>({ ask: 'engine' })),
        });
      } catch (error) {
        if (worker.name === 'ours') throw error;
        workers.splice(workers.indexOf(worker), 1);
        terminal.note(
          `${worker.name} does not start: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`,
        );
      }
    }
    terminal.note(
      align(
        engines.map(({ name, version, adapter }) => [name, version, adapter]),
        3,
      ),
    );
    const rows: Row[] = [];
    const interrupted = interruption((text) => terminal.note(text));
    for (const work of WORKS.filter((w) => w.id.toLowerCase().includes((filter ?? '').toLowerCase()))) {
      if (interrupted.aborted) break;
      const row = await measureWork(work, workers, rounds, (text) => terminal.progress(text));
      rows.push(row);
      const ratio = best(row);
      terminal.note(`${row.id}: ${ratio ? `${ratio.median.toFixed(2)}×` : 'nothing to compare with'}`);
    }
    terminal.done();
    console.log(
      `\n${tableOf(
        rows,
        engines.map(({ name }) => name),
      )}`,
    );
    if (json !== undefined) {
      writeFileSync(
        json,
        `${JSON.stringify({ date: new Date().toISOString(), commit: commitOf(), engines, rounds, rows }, null, 1)}\n`,
      );
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.close()));
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
