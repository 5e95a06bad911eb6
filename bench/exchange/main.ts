// npm run bench -- --filter exchange: what it costs that several GPUs train together. Starts ranks by mpirun, one a GPU, and prints what
// buckets take, and how much faster two (four, eight) train than one.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import { listGpus } from '../../cli/distributed/gpus.ts';
import { mpirun, requireMpirun } from '../../cli/distributed/mpirun.ts';
import { commitOf } from '../git.ts';
import type { BucketResult, ExchangeResult, RankWork, TrainingResult, TrainingWork } from './results.ts';
import { exchangeTable } from './table.ts';

export interface ExchangeOptions {
  /** Folder for the results. */
  readonly out?: string;
  readonly quick: boolean;
}

/** The ranks that are compared with one: two, four and eight, as far as there are GPUs; two on a software adapter. */
function counts(gpus: number): number[] {
  return [2, 4, 8].filter((count) => count === 2 || count <= gpus);
}

/** Runs so many ranks; gives what rank 0 printed. */
async function runRanks(count: number, work: RankWork): Promise<(BucketResult | TrainingResult)[]> {
  const rank = fileURLToPath(new URL('./rank.ts', import.meta.url));
  const command = [process.execPath, '--import', 'tsx', rank, JSON.stringify(work)];
  const places = Array.from({ length: count }, (_, k) => (work.oversubscribe ? 0 : k));
  const { args, env } = mpirun(places, command);
  const child = spawn('mpirun', args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const results: (BucketResult | TrainingResult)[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    console.error(line);
    if (line.startsWith('{')) results.push(JSON.parse(line) as BucketResult | TrainingResult);
  }
  const status = await new Promise<number | null>((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode);
    child.once('exit', resolve);
  });
  if (status !== 0) throw new Error(`${count} ranks ended with status ${status}.`);
  return results;
}

/** What one rank and `count` ranks train: as many images a GPU, and as many in all. */
function trainings(
  count: number,
  precision: 'f32' | 'f16',
  each: number,
  imgSize: number,
  models: TrainingWork['model'][],
) {
  return models.flatMap((model) =>
    [...new Set([each, each * count])].map((batch) => ({ model, imgSize, batch, precision })),
  );
}

export async function benchExchange({ out, quick }: ExchangeOptions): Promise<void> {
  requireMpirun();
  const gpus = await listGpus();
  const small = gpus.length < 2;
  const ranks = counts(gpus.length);
  const [each, imgSize] = small ? [4, 16] : [64, 32];
  const models: TrainingWork['model'][] = small ? ['DiS-N/4'] : quick ? ['DiS-S/2'] : ['DiS-S/2', 'DiS-B/2'];
  const base = { oversubscribe: small, seconds: small ? 2 : 5 };
  const found: (BucketResult | TrainingResult)[] = [];
  for (const [tier, precision] of [
    ['stock', 'f32'],
    ['fast', 'f16'],
  ] as const) {
    const alone = ranks.flatMap((count) => trainings(count, precision, each, imgSize, models));
    const unique = [...new Map(alone.map((work) => [JSON.stringify(work), work])).values()];
    found.push(...(await runRanks(1, { ...base, tier, megabytes: [], training: unique })));
    for (const count of ranks) {
      const training = models.map((model) => ({ model, imgSize, batch: each * count, precision }));
      const megabytes = tier === 'stock' ? (small ? [1, 4] : [1, 2, 4, 8, 16, 64, 128]) : [];
      found.push(...(await runRanks(count, { ...base, tier, megabytes, training })));
    }
  }
  const training = found.filter((one): one is TrainingResult => one.kind === 'training');
  const result: ExchangeResult = {
    commit: commitOf().id,
    date: new Date().toISOString(),
    machine: `${training[0].adapter}${small ? '' : ` × ${gpus.length}`}, ${training[0].driver}, ${cpus().length} × ${cpus()[0].model}`,
    buckets: found.filter((one): one is BucketResult => one.kind === 'bucket'),
    training,
  };
  const table = exchangeTable(result);
  console.log(`\n${table}`);
  if (out !== undefined) {
    mkdirSync(out, { recursive: true });
    const name = training[0].adapter
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/-$/, '');
    const file = `${out}/exchange-${name}${small ? '' : `-x${ranks.at(-1)}`}`;
    writeFileSync(`${file}.json`, `${JSON.stringify(result, null, 1)}\n`);
    writeFileSync(`${file}.txt`, `${table}\n`);
  }
}
