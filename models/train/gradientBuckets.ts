// The gradients of several GPUs become their sum while backward still runs. They lie in the arena in about the order in
// which backward completes them and travel in buckets: a complete bucket is copied to memory that the host sees, its
// bytes go to the other ranks, and what came from them is copied back and added on the GPU, in the order of ranks, so
// that every rank has the same bits.
//
//   2 ranks   each sends its bucket to the other                         bucket → map → gather → add
//   more      each adds up the part that is its own, and sends the sum   bucket → map → scatter → add → map → gather → place
//
// Either way a rank sends and receives 2 (ranks - 1) / ranks of the gradients' bytes, as a ring does.

import { empty, HostBuffer, keep, type Device, type Operand, type Tensor } from '../../core/index.ts';
import { packGradients, placeGradients, sumGradients, wireBytes, type WireType } from '../../kernels/index.ts';
import type { GradientRun } from '../../nn/index.ts';
import type { ExchangeChannel, ExchangeTimes, GradientExchange } from './exchange.ts';

/**
 * Bytes of a bucket on the wire, by its place counted from the last, which backward waits for: small at the end, so
 * that little is left to do then, and large before, as every bucket costs the GPU a pause (two H200s, DiS-B/2, f16: 128
 * ms a step with 32 MB, 131 with 16, 139 with 8).
 */
export function bucketBytes(fromLast: number): number {
  return Math.min(32, 2 * 2 ** fromLast) * 2 ** 20;
}

/**
 * Buckets whose part of backward is submitted before the GPU is done with the first of them: it must not run dry, and
 * what arrives must not queue behind all of backward.
 */
const AHEAD = 2;

/**
 * Buckets that are on their way at a time. Their memory is used again and again, so that it stays in the processor's
 * caches.
 */
const LANES = 5;

/** The memory that buckets travel through, one at a time. */
interface Lane {
  readonly channel: ExchangeChannel;
  readonly down: HostBuffer;
  readonly up: HostBuffer;
  /** For more than two ranks: the sum of this rank's part, and of the others'. */
  readonly downPart: HostBuffer | null;
  readonly upPart: HostBuffer | null;
  /** Gradients as they are sent where that is another type, and received ones, on the GPU. */
  readonly packed: Tensor | null;
  readonly received: Tensor;
  /** Done when the bucket before has left. */
  free: Promise<unknown>;
}

/** A bucket on its way. */
interface Travel {
  /** The GPU has computed it. */
  readonly mapped: Promise<unknown>;
  /** Its sum is submitted. */
  readonly summed: Promise<void>;
}

/** All buckets of a trainer's gradients. */
export class GradientBuckets {
  private readonly device: Device;
  private readonly rank: number;
  private readonly ranks: number;
  private readonly gradients: Tensor;
  private readonly runs: readonly GradientRun[];
  private readonly wire: WireType;
  private readonly lanes: readonly Lane[];
  private travels: Travel[] = [];
  /** The bucket begun last, in whose turn the next one is. */
  private turn: Promise<unknown> = Promise.resolve();
  private moving = 0;
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
    this.runs = runs;
    this.wire = wire;
    const { device, ranks } = this;
    const whole = Math.max(...runs.map((run) => this.bytes(run.numel)));
    const part = Math.max(...runs.map((run) => this.bytes(this.partOf(run))));
    const twice = ranks > 2;
    const words = (bytes: number): Tensor => keep(empty(device, [bytes / 4], 'u32'));
    this.lanes = channels.map((channel) => ({
      channel,
      down: new HostBuffer(device, twice ? part * ranks : whole, 'read'),
      up: new HostBuffer(device, part * (ranks - 1), 'write'),
      downPart: twice ? new HostBuffer(device, part, 'read') : null,
      upPart: twice ? new HostBuffer(device, part * (ranks - 1), 'write') : null,
      packed: wire === 'f16' ? words(whole) : null,
      received: words(part * (ranks - 1)),
      free: Promise.resolve(),
    }));
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
    const most = Math.max(...runs.map(({ numel }) => (numel + 4 * exchange.ranks) * wireBytes(wire)));
    const channels = await exchange.open(Array.from({ length: Math.min(LANES, runs.length) }, () => most));
    return new GradientBuckets(exchange, gradients, runs, wire, channels);
  }

  /**
   * Begins with bucket `run`, whose gradients the commands encoded so far complete; waits where the GPU has enough to
   * do.
   */
  async begin(run: number): Promise<void> {
    const index = this.travels.length;
    const lane = this.lanes[index % this.lanes.length];
    if (index === 0) this.moving = 0;
    const { free } = lane;
    const sent = this.inTurn(async () => {
      await free;
      return this.send(this.runs[run], lane);
    });
    const mapped = sent.then((travel) => travel.mapped),
      summed = sent.then((travel) => travel.summed);
    for (const promise of [mapped, summed]) promise.catch(() => {}); // told by finish()
    lane.free = summed;
    this.travels.push({ mapped, summed });
    if (index === 0) void mapped.then(() => (this.began = performance.now())).catch(() => {});
    await sent;
    await this.travels[index - AHEAD]?.mapped;
  }

  /** Waits until all gradients are sums and what computes them is submitted. */
  async finish(): Promise<Omit<ExchangeTimes, 'encoding'>> {
    const { travels } = this;
    await this.turn;
    await Promise.all(travels.map(({ mapped }) => mapped));
    const computed = performance.now();
    await Promise.all(travels.map(({ summed }) => summed));
    this.travels = [];
    const now = performance.now();
    return { span: (now - this.began) / 1000, exposed: (now - computed) / 1000, moving: this.moving / 1000 };
  }

  dispose(): void {
    for (const { down, up, downPart, upPart, packed, received } of this.lanes) {
      for (const buffer of [down, up, downPart, upPart]) buffer?.destroy();
      packed?.dispose();
      received.dispose();
    }
  }

  /** Submits the copy of what is complete, and follows it until the sum is submitted. */
  private send(run: GradientRun, lane: Lane): Travel {
    const { rank, ranks } = this;
    const { channel, down, up, downPart, upPart } = lane;
    const count = this.partOf(run),
      end = run.offset + run.numel;
    const part = this.bytes(count),
      others = part * (ranks - 1);
    this.encodeDown(run.offset, run.numel, lane, down);
    const mapped = Promise.all([down.map(downPart ? part * ranks : part), up.map(others)]);
    const follow = async (): Promise<void> => {
      const [source, target] = await mapped;
      await this.timed(() => (downPart ? channel.scatter(source, target) : channel.gather(source, target)));
      down.unmap();
      up.unmap();
      const first = run.offset + (downPart ? rank * count : 0);
      this.encodeUp(up, others, lane, { first, count, end }, sumGradients);
      if (!downPart || !upPart) return;
      this.encodeDown(first, Math.max(0, Math.min(count, end - first)), lane, downPart);
      const [own, rest] = await Promise.all([downPart.map(part), upPart.map(others)]);
      await this.timed(() => channel.gather(own, rest));
      downPart.unmap();
      upPart.unmap();
      this.encodeUp(upPart, others, lane, { first: run.offset, count, end }, placeGradients);
    };
    return { mapped, summed: follow() };
  }

  /** Elements of a run that a rank sends to another: all of it between two, else its part. */
  private partOf({ numel }: GradientRun): number {
    return this.ranks === 2 ? numel : 4 * Math.ceil(numel / 4 / this.ranks);
  }

  /** Bytes of so many elements on the wire. */
  private bytes(elements: number): number {
    return elements * wireBytes(this.wire);
  }

  private encodeDown(first: number, count: number, { packed }: Lane, to: HostBuffer): void {
    const { device, gradients } = this;
    if (packed) {
      packGradients(device, flat(gradients), flat(packed), { first, count });
      to.copyFrom(flat(packed), this.bytes(count));
    } else to.copyFrom({ storage: gradients.storage, byteOffset: 4 * (gradients.offset + first) }, this.bytes(count));
  }

  private encodeUp(
    from: HostBuffer,
    bytes: number,
    lane: Lane,
    place: { first: number; count: number; end: number },
    add: typeof sumGradients,
  ): void {
    const { device, gradients, wire, rank, ranks } = this;
    const received = flat(lane.received);
    from.copyTo(received, bytes);
    add(device, flat(gradients), { received, wire, rank, ranks, ...place });
    device.stream.flush();
  }

  private async timed(move: () => Promise<void>): Promise<void> {
    const began = performance.now();
    await move();
    this.moving += performance.now() - began;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work);
    this.turn = done;
    done.catch(() => {});
    return done;
  }
}

function flat({ storage }: Tensor): Operand {
  return { storage, byteOffset: 0 };
}
