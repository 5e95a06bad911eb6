// Every rank begins with what rank 0 has: it alone reads checkpoints, and other adapters may draw initial values with
// other last bits.

import type { Trainer } from '../../models/train/trainer.ts';
import type { TrainerState } from '../../models/train/types.ts';
import type { Ranks } from './ranks.ts';

type Parts = Pick<TrainerState, 'model' | 'ema' | 'optimizer'>;
const PARTS = ['model', 'ema', 'optimizer'] as const satisfies readonly (keyof Parts)[];

/** Bytes that one message carries. */
const MESSAGE = 1 << 28;

/** Makes every rank's trainer that of rank 0, bit for bit. All ranks call it. */
export async function shareState(ranks: Ranks, trainer: Trainer): Promise<void> {
  const own = await trainer.state();
  const json = await ranks.broadcast(own.json);
  const parts: Record<(typeof PARTS)[number], Map<string, { shape: readonly number[]; data: Float32Array }>> = {
    model: new Map(),
    ema: new Map(),
    optimizer: new Map(),
  };
  for (const part of PARTS) {
    for (const [name, value] of own[part]) {
      const { data } = value;
      if (!(data instanceof Float32Array)) throw new Error(`[shareState] ${name} is no f32; this is a defect.`);
      for (let at = 0; at < data.length; at += MESSAGE / 4)
        await ranks.broadcastBytes(data.subarray(at, at + MESSAGE / 4));
      parts[part].set(name, { shape: value.shape, data });
    }
  }
  if (ranks.rank > 0) trainer.loadState({ ...parts, json });
}
