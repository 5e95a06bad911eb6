// The run of a rank that writes no files: rank 0 reads and writes the run's folder, and the others need only the data.

import { tuningOf, type Device, type TuningData } from '../../core/index.ts';
import type { OpenedData } from '../data/openData.ts';
import type { RunConfig } from '../runConfig.ts';
import { buildTraining, stopsAfter } from '../training.ts';
import type { RunPlace } from './join.ts';
import type { Ranks } from './ranks.ts';
import { shareState } from './shareState.ts';

/** What rank 0 tells the others when it has opened the run. */
export interface RunNews {
  readonly config: RunConfig;
  /** Step that the run goes on from. */
  readonly start: number;
  readonly place: RunPlace;
}

/** Trains beside rank 0 until it ends. */
export async function followRun({
  device,
  ranks,
  config,
  data,
  signal,
}: Pick<RunNews, 'config'> & { device: Device; ranks: Ranks; data: OpenedData; signal: AbortSignal }): Promise<void> {
  tuningOf(device).importTuning(await ranks.broadcast<TuningData | null>(null), { alone: true });
  const { trainer, loader, dispose } = buildTraining({ device, config, data, ranks });
  try {
    await shareState(ranks, trainer);
    const batches = loader();
    while (trainer.step < config.plan.steps && !trainer.stopped) {
      const steps = Math.min(config.plan.steps, ...stopsAfter(trainer.step, config.plan));
      for await (const _ of trainer.run(batches, { steps, signal }));
      // Rank 0 writes what is due.
      await ranks.barrier();
    }
    await ranks.barrier();
  } finally {
    dispose();
  }
}
