// Moves buckets between ranks of several machines by messages. One call at a time, in an order that is the same on all
// ranks: calls that wait for each other on worker threads could otherwise block all threads of two ranks, each for what
// the other has not begun.

import type { ExchangeChannel } from '../../models/train/exchange.ts';
import { RankLostError, type Communicator } from './mpi.ts';

/** Runs calls in the order of their places, whatever the order in which they come. */
class Lane {
  private readonly ready = new Map<string, () => Promise<void>>();
  private readonly order: readonly string[];
  private next = 0;
  private busy = false;

  /**
   * @param channels calls of each kind in a round
   * @param twice whether a channel scatters before it gathers; the next one's scatter comes between, so that something
   *   moves while a GPU adds
   */
  constructor(channels: number, twice: boolean) {
    const order: string[] = [];
    for (let k = 0; k < channels; k++) {
      if (twice) order.push(`scatter ${k}`);
      if (!twice) order.push(`gather ${k}`);
      else if (k > 0) order.push(`gather ${k - 1}`);
    }
    if (twice) order.push(`gather ${channels - 1}`);
    this.order = order;
  }

  run(name: string, call: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.ready.set(name, () => call().then(resolve, reject));
      void this.pump();
    });
  }

  private async pump(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    for (;;) {
      const name = this.order[this.next];
      const call = this.ready.get(name);
      if (!call) break;
      this.ready.delete(name);
      this.next = (this.next + 1) % this.order.length;
      await call();
    }
    this.busy = false;
  }
}

/** Channels over `ranks`. Collective. */
export function messageChannels(ranks: Communicator, count: number, seconds: number): ExchangeChannel[] {
  const { rank, size } = ranks;
  const lane = new Lane(count, size > 2);
  const others = Array.from({ length: size }, (_, r) => r).filter((r) => r !== rank);
  /** The place of a channel in this round: that of its first call. */
  let begun = 0;
  const place = (): number => begun++ % count;
  const counts = (bytes: number): Int32Array => Int32Array.from({ length: size }, (_, r) => (r === rank ? 0 : bytes));
  const places = (bytes: number, of: (r: number) => number): Int32Array =>
    Int32Array.from({ length: size }, (_, r) => (r === rank ? 0 : of(r) * bytes));
  const move = (name: string, source: ArrayBuffer, target: ArrayBuffer, bytes: number, from: (r: number) => number) =>
    lane.run(name, () =>
      within(
        ranks.allToAllParts(
          { buffer: source, counts: counts(bytes), places: places(bytes, from) },
          { buffer: target, counts: counts(bytes), places: places(bytes, (r) => others.indexOf(r)) },
        ),
        seconds,
      ),
    );
  return Array.from({ length: count }, (): ExchangeChannel => {
    let own = 0;
    return {
      scatter(source, target) {
        own = place();
        return move(`scatter ${own}`, source, target, source.byteLength / size, (r) => r);
      },
      gather(source, target) {
        if (size === 2) own = place();
        return move(`gather ${own}`, source, target, source.byteLength, () => 0);
      },
    };
  });
}

/** Fails where MPI doesn't come back: another rank hangs, or the network is cut. */
export async function within<T>(call: Promise<T>, seconds: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () =>
        reject(
          new RankLostError(`The other ranks have not answered for ${seconds} s; one hangs, or the network is cut.`),
        ),
      seconds * 1000,
    );
  });
  try {
    return await Promise.race([call, late]);
  } finally {
    clearTimeout(timer);
  }
}
