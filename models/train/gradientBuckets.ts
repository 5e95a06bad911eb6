// The gradients of several GPUs become their sum while backward still runs. They lie in the arena in about the order in which backward
// completes them and travel in buckets: a complete bucket is copied to memory that the host sees, its bytes go to the other ranks, and
// what came from them is copied back and added on the GPU, in the order of ranks, so that every rank has the same bits.
//
//   2 ranks   each sends its bucket to the other                         bucket → map → gather → add
//   more      each adds up the part that is its own, and sends the sum   bucket → map → scatter → add → map → gather → place
//
// Either way a rank sends and receives 2 (ranks - 1) / ranks of the gradients' bytes, as a ring does.

import { empty, HostBuffer, keep, type Device, type Operand, type Tensor } from '../../core/index.ts';
import { packGradients, placeGradients, sumGradients, wireBytes, type WireType } from '../../kernels/index.ts';
import type { GradientRun } from '../../nn/index.ts';
import type { ExchangeChannel, ExchangeTimes, GradientExchange } from './exchange.ts';

/** Bytes of a bucket on the wire, by its place counted from the last, which backward waits for: small at the end, so that little is left to do then. */
export function bucketBytes(fromLast: number): number {
  return Math.min(16, 2 * 2 ** fromLast) * 2 ** 20;
}

/** Buckets whose part of backward is submitted before the GPU is done with the first of them: it must not run dry, and what arrives must not queue behind all of backward. */
const AHEAD = 2;

/** One run of gradients, and the memory that it travels through. */
class Bucket {
  private readonly buckets: GradientBuckets;
  private readonly run: GradientRun;
  private readonly channel: ExchangeChannel;
  private readonly down: HostBuffer;
  private readonly up: HostBuffer;
  /** For more than two ranks: the sum of this rank's part. */
  private readonly downPart: HostBuffer | null;
  private readonly upPart: HostBuffer | null;
  /** Elements that a rank sends to another. */
  private readonly count: number;

  constructor(buckets: GradientBuckets, run: GradientRun, channel: ExchangeChannel) {
    this.buckets = buckets;
    this.run = run;
    this.channel = channel;
    const { device, ranks } = buckets;
    this.count = buckets.partOf(run);
    const part = buckets.bytes(this.count);
    const twice = ranks > 2;
    this.down = new HostBuffer(device, twice ? part * ranks : part, 'read');
    this.up = new HostBuffer(device, part * (ranks - 1), 'write');
    this.downPart = twice ? new HostBuffer(device, part, 'read') : null;
    this.upPart = twice ? new HostBuffer(device, part * (ranks - 1), 'write') : null;
  }

  /** Submits the copy of what is complete; `mapped` is done when the GPU has come so far, `summed` when the sum is submitted. */
  begin(): { mapped: Promise<unknown>; summed: Promise<void> } {
    const { run, buckets, count, down, up, downPart, upPart, channel } = this;
    const end = run.offset + run.numel;
    buckets.encodeDown(run.offset, run.numel, down);
    const mapped = Promise.all([down.map(), up.map()]);
    const move = async (work: () => Promise<void>): Promise<void> => {
      const began = performance.now();
      await work();
      buckets.moving += performance.now() - began;
    };
    const summed = mapped.then(async ([source, target]) => {
      await move(() => (downPart ? channel.scatter(source, target) : channel.gather(source, target)));
      down.unmap();
      up.unmap();
      const first = run.offset + (downPart ? buckets.rank * count : 0);
      buckets.encodeUp(up, { first, count, end }, sumGradients);
      if (downPart && upPart) {
        buckets.encodeDown(first, Math.max(0, Math.min(count, end - first)), downPart);
        const [own, others] = await Promise.all([downPart.map(), upPart.map()]);
        await move(() => channel.gather(own, others));
        downPart.unmap();
        upPart.unmap();
        buckets.encodeUp(upPart, { first: run.offset, count, end }, placeGradients);
      }
      buckets.device.stream.flush();
    });
    summed.catch(() => {});
    return { mapped, summed };
  }

  dispose(): void {
    for (const buffer of [this.down, this.up, this.downPart, this.upPart]) buffer?.destroy();
  }
}

/** All buckets of a trainer's gradients. */
export class GradientBuckets {
  readonly device: Device;
  readonly rank: number;
  readonly ranks: number;
  /** Milliseconds that the transport took in this step. @internal */
  moving = 0;
  private readonly gradients: Tensor;
  private readonly wire: WireType;
  /** Received bytes on the GPU, and gradients as they are sent. */
  private readonly received: Tensor;
  private readonly packed: Tensor | null;
  private readonly buckets: readonly Bucket[];
  private under: { mapped: Promise<unknown>; summed: Promise<void> }[] = [];
  private began = 0;

  private constructor(
    exchange: GradientExchange,
    gradients: Tensor,
    runs: readonly GradientRun[],
    wire: WireType,
    channels: readonly ExchangeChannel[],
  ) {
    this.device = gradients.device;
    this.rank = exchange.rank;
    this.ranks = exchange.ranks;
    this.gradients = gradients;
    this.wire = wire;
    const most = (elements: (run: GradientRun) => number): number => this.bytes(Math.max(...runs.map(elements))) / 4;
    this.received = keep(empty(this.device, [most((run) => this.partOf(run) * (this.ranks - 1))], 'u32'));
    this.packed = wire === 'f16' ? keep(empty(this.device, [most((run) => run.numel)], 'u32')) : null;
    this.buckets = runs.map((run, i) => new Bucket(this, run, channels[i]));
  }

  /**
   * @param gradients the flat f32 arena
   * @param runs its parts, which begin and end at multiples of 4
   */
  static async open(
    exchange: GradientExchange,
    gradients: Tensor,
    runs: readonly GradientRun[],
    wire: WireType,
  ): Promise<GradientBuckets> {
    // Parts of a bucket may be a little longer than the bucket.
    const most = ({ numel }: GradientRun): number => (numel + 4 * exchange.ranks) * wireBytes(wire);
    return new GradientBuckets(exchange, gradients, runs, wire, await exchange.open(runs.map(most)));
  }

  /** Begins with bucket `run`, whose gradients the commands encoded so far complete; waits where the GPU has enough to do. */
  async begin(run: number): Promise<void> {
    if (this.under.length === 0) {
      this.moving = 0;
      const { mapped } = this.push(run);
      this.began = 0;
      mapped.then(
        () => (this.began = performance.now()),
        () => {}, // told by what waits for it
      );
    } else this.push(run);
    await this.under[this.under.length - 1 - AHEAD]?.mapped;
  }

  /** Waits until all gradients are sums and what computes them is submitted. */
  async finish(): Promise<ExchangeTimes> {
    const under = this.under;
    this.under = [];
    await Promise.all(under.map(({ mapped }) => mapped));
    const computed = performance.now();
    await Promise.all(under.map(({ summed }) => summed));
    const now = performance.now();
    return { span: (now - this.began) / 1000, exposed: (now - computed) / 1000, moving: this.moving / 1000 };
  }

  /** Bytes of so many elements on the wire. @internal */
  bytes(elements: number): number {
    return elements * wireBytes(this.wire);
  }

  /** Elements of a run that a rank sends to another: all of it between two, else its part. @internal */
  partOf({ numel }: GradientRun): number {
    return this.ranks === 2 ? numel : 4 * Math.ceil(numel / 4 / this.ranks);
  }

  /** @internal */
  encodeDown(first: number, count: number, to: HostBuffer): void {
    const { device, gradients, packed } = this;
    if (packed) {
      packGradients(device, flat(gradients), flat(packed), { first, count });
      to.copyFrom(flat(packed), this.bytes(count));
    } else to.copyFrom({ storage: gradients.storage, byteOffset: 4 * (gradients.offset + first) }, this.bytes(count));
  }

  /** @internal */
  encodeUp(from: HostBuffer, place: { first: number; count: number; end: number }, add: typeof sumGradients): void {
    const { device, gradients, wire, rank, ranks } = this;
    const received = flat(this.received);
    from.copyTo(received, from.bytes);
    add(device, flat(gradients), { received, wire, rank, ranks, ...place });
    device.stream.flush();
  }

  dispose(): void {
    for (const bucket of this.buckets) bucket.dispose();
    this.received.dispose();
    this.packed?.dispose();
  }

  private push(run: number): { mapped: Promise<unknown>; summed: Promise<void> } {
    const begun = this.buckets[run].begin();
    this.under.push(begun);
    return begun;
  }
}

function flat({ storage }: Tensor): Operand {
  return { storage, byteOffset: 0 };
}
