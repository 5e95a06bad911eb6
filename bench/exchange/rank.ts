// What one rank of the exchange benchmark does: moves buckets, then trains. Rank 0 prints lines of JSON that main.ts collects.

import { HostBuffer, openDevice, zeros, keep } from '../../core/index.ts';
import type { StepRecord } from '../../models/train/types.ts';
import { ownGpu } from '../../cli/distributed/ownGpu.ts';
import { Ranks } from '../../cli/distributed/ranks.ts';
import { piecesOf } from '../../cli/distributed/sharedChannel.ts';
import type { BucketResult, RankWork, TrainingResult, TrainingWork } from './results.ts';
import { makeTraining, median } from './training.ts';

const work = JSON.parse(process.argv[2]) as RankWork;
const gpu = await ownGpu(work.oversubscribe);
const ranks = await Ranks.join();
const device = await openDevice({ tier: work.tier });
ranks.polite = device.adapter.software;
console.error(
  `rank ${ranks.rank} of ${ranks.ranks}: ${device.adapter.device} at ${gpu}, ${ranks.version.split(',')[0]}`,
);
for (const megabytes of ranks.ranks > 1 ? work.megabytes : []) print(await bucket(megabytes));
for (const one of work.training) print(await training(one));
// First: a destroyed device may be collected while MPI still works, which Dawn doesn't survive.
await ranks.leave();
device.destroy();
process.exit(0);

function print(result: BucketResult | TrainingResult): void {
  if (ranks.rank === 0) console.log(JSON.stringify(result));
}

/** The ways of a bucket to the other ranks and back, each for itself, and what MPI's own reduction takes for the same bytes. */
async function bucket(megabytes: number): Promise<BucketResult> {
  const bytes = Math.floor((megabytes * 1e6) / 4096) * 4096;
  const [channel] = await ranks.open([bytes]);
  const communicators = Array.from({ length: 8 }, () => ranks.communicator());
  const gradients = keep(zeros(device, [(bytes / 4) * (ranks.ranks - 1)]));
  const down = new HostBuffer(device, bytes, 'read'),
    up = new HostBuffer(device, bytes * (ranks.ranks - 1), 'write');
  const out = new ArrayBuffer(bytes);
  const times = new Map<string, number[]>();
  const time = async (name: string, move: () => Promise<unknown>): Promise<void> => {
    await ranks.barrier();
    const began = performance.now();
    await move();
    times.set(name, [...(times.get(name) ?? []), performance.now() - began]);
  };
  for (let round = 0; round < 9; round++) {
    let [source, target] = [out, out];
    await time('copyDown', async () => {
      down.copyFrom({ storage: gradients.storage, byteOffset: 0 }, bytes);
      source = await down.map();
    });
    target = await up.map();
    await time('gather', () => channel.gather(source, target));
    const [from, to] = [ranks.address(source), ranks.address(out)];
    await time('allReduce', () => communicators[0].allReduce(from, to, bytes / 4, 'f32'));
    await time('allReducePieces', () =>
      Promise.all(
        piecesOf(bytes).map((piece, k) =>
          communicators[k].allReduce(from + BigInt(piece.at), to + BigInt(piece.at), piece.bytes / 4, 'f32'),
        ),
      ),
    );
    down.unmap();
    up.unmap();
    await time('copyUp', async () => {
      up.copyTo({ storage: gradients.storage, byteOffset: 0 }, up.bytes);
      await device.synchronize();
    });
  }
  down.destroy();
  up.destroy();
  gradients.dispose();
  for (const communicator of communicators) communicator.free();
  // The first round takes memory.
  const of = (name: string): number => median(times.get(name)!.slice(1));
  return {
    kind: 'bucket',
    ranks: ranks.ranks,
    megabytes,
    transport: ranks.transport!,
    copyDown: of('copyDown'),
    gather: of('gather'),
    copyUp: of('copyUp'),
    allReduce: of('allReduce'),
    allReducePieces: of('allReducePieces'),
  };
}

/** Steps for a while, after some that compile and warm up. */
async function training(one: TrainingWork): Promise<TrainingResult> {
  const { model: name, imgSize, batch, precision } = one;
  const { trainer, loader, dispose } = makeTraining(device, one, ranks);
  const WARM = 4;
  const measured: { at: number; record: StepRecord }[] = [];
  let goal = Infinity;
  const stop = new AbortController();
  for await (const record of trainer.run(loader, { steps: 1_000_000, signal: stop.signal })) {
    measured.push({ at: performance.now(), record });
    if (measured.length === WARM) {
      // All ranks take as many steps.
      const [first] = await ranks.gatherNumbers(
        Float64Array.of((measured[WARM - 1].at - measured[WARM - 2].at) / 1000),
      );
      goal = WARM + Math.max(5, Math.ceil(work.seconds / first[0]));
    }
    if (measured.length >= goal) break;
  }
  const from = measured[WARM - 1].at,
    to = measured.at(-1)!.at,
    steps = measured.length - WARM;
  await ranks.barrier();
  await device.synchronize();
  dispose();
  device.trim();
  const rest = measured.slice(WARM);
  const exchanged = rest.flatMap(({ record }) => record.exchange ?? []);
  const part = (of: 'span' | 'exposed' | 'moving' | 'encoding'): number =>
    1000 * median(exchanged.map((times) => times[of]));
  return {
    kind: 'training',
    model: name,
    imgSize,
    batch,
    precision,
    ranks: ranks.ranks,
    adapter: device.adapter.device,
    driver: device.adapter.description,
    tier: device.tier,
    steps,
    imagesPerSecond: (steps * batch * 1000) / (to - from),
    step: median(rest.map(({ at }, i) => at - (i ? rest[i - 1].at : from))),
    ...(exchanged.length > 0 && {
      exchange: {
        span: part('span'),
        exposed: part('exposed'),
        moving: part('moving'),
        encoding: part('encoding'),
      },
    }),
  };
}
