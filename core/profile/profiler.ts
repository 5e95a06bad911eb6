// GPU time of every dispatch, from timestamp queries, with the host's time beside it. While a profiler is set, each
// dispatch is a pass of its own, which takes longer on the whole: the times compare kernels, not steps.

import type { Device } from '../gpu/device.ts';
import { LimitError } from '../errors.ts';
import { MAP_MODE, USAGE } from '../gpu/flags.ts';
import type { DispatchTimer } from '../gpu/recorder.ts';

/** One measured dispatch. Times in milliseconds. */
export interface ProfileEvent {
  readonly name: string;
  /** When the GPU began, from its first dispatch. */
  readonly start: number;
  readonly gpu: number;
  /** When the host began to encode it, from the beginning of the profile. */
  readonly hostStart: number;
  readonly host: number;
}

/** Sums over all dispatches of one kernel. */
export interface ProfileRow {
  readonly name: string;
  readonly count: number;
  /** Milliseconds. */
  readonly gpu: number;
  /** Milliseconds that the host took to look up and encode them. */
  readonly host: number;
  /** Part of the GPU time of all. */
  readonly share: number;
}

const CAPACITY = 2048;

interface Encoded {
  readonly name: string;
  readonly hostStart: number;
  host: number;
}

interface Batch {
  readonly set: GPUQuerySet;
  readonly dispatches: Encoded[];
  readonly buffers: GPUBuffer[];
}

/**
 * `device.profiler = new Profiler(device)` measures until it is set to null; then ask for `table()` or `chromeTrace()`.
 */
export class Profiler implements DispatchTimer {
  private readonly device: Device;
  private readonly begun = performance.now();
  private hostFrom: number | null = null;
  private open: Batch | null = null;
  private readonly waiting: Batch[] = [];
  private readonly measured: { dispatches: readonly Encoded[]; times: BigUint64Array }[] = [];

  /** @throws LimitError where the adapter has no timestamp queries */
  constructor(device: Device) {
    if (!device.has('timestamp-query'))
      throw new LimitError('profiler', 'The adapter has no timestamp queries', {
        remedy: 'measure whole steps by the clock',
      });
    this.device = device;
  }

  /** @internal The host begins to prepare a dispatch. */
  hostBegins(): void {
    this.hostFrom = performance.now();
  }

  /** @internal */
  beginPass(encoder: GPUCommandEncoder, name: string): GPUComputePassEncoder {
    this.open ??= {
      set: this.device.gpu.createQuerySet({ type: 'timestamp', count: CAPACITY }),
      dispatches: [],
      buffers: [],
    };
    const index = this.open.dispatches.length * 2;
    this.hostFrom ??= performance.now();
    this.open.dispatches.push({ name, hostStart: this.hostFrom - this.begun, host: 0 });
    return encoder.beginComputePass({
      timestampWrites: { querySet: this.open.set, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 },
    });
  }

  /** @internal The dispatch begun last is encoded. */
  hostEnds(): void {
    const last = this.open?.dispatches.at(-1);
    if (last) last.host = performance.now() - this.begun - last.hostStart;
    this.hostFrom = null;
  }

  /** @internal Called by the stream before it submits. */
  resolve(encoder: GPUCommandEncoder): void {
    const batch = this.open;
    if (!batch) return;
    const count = batch.dispatches.length * 2;
    const [resolved, result] = [USAGE.QUERY_RESOLVE | USAGE.COPY_SRC, USAGE.MAP_READ | USAGE.COPY_DST].map((usage) =>
      this.device.gpu.createBuffer({ size: count * 8, usage }),
    );
    encoder.resolveQuerySet(batch.set, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, result, 0, count * 8);
    batch.buffers.push(result, resolved);
    this.waiting.push(batch);
    this.open = null;
  }

  /** Every dispatch measured so far, in order. */
  async events(): Promise<ProfileEvent[]> {
    this.device.stream.flush();
    for (const { set, dispatches, buffers } of this.waiting.splice(0)) {
      await buffers[0].mapAsync(MAP_MODE.READ);
      this.measured.push({ dispatches, times: new BigUint64Array(buffers[0].getMappedRange().slice(0)) });
      for (const resource of [set, ...buffers]) resource.destroy();
    }
    const origin = this.measured[0]?.times[0] ?? 0n;
    const milliseconds = (nanoseconds: bigint): number => Number(nanoseconds) / 1e6;
    return this.measured.flatMap(({ dispatches, times }) =>
      dispatches.map((d, i) => ({
        ...d,
        start: milliseconds(times[2 * i] - origin),
        gpu: milliseconds(times[2 * i + 1] - times[2 * i]),
      })),
    );
  }

  /** Kernels by GPU time, the slowest first. */
  async rows(): Promise<ProfileRow[]> {
    const sums = new Map<string, { count: number; gpu: number; host: number }>();
    let total = 0;
    for (const { name, gpu, host } of await this.events()) {
      const sum = sums.get(name) ?? { count: 0, gpu: 0, host: 0 };
      sums.set(name, { count: sum.count + 1, gpu: sum.gpu + gpu, host: sum.host + host });
      total += gpu;
    }
    return [...sums]
      .map(([name, sum]) => ({ name, ...sum, share: total ? sum.gpu / total : 0 }))
      .sort((a, b) => b.gpu - a.gpu);
  }

  /** The rows as text, with a line for all together. */
  async table(): Promise<string> {
    const rows = await this.rows();
    const sum = (key: 'count' | 'gpu' | 'host' | 'share'): number => rows.reduce((s, row) => s + row[key], 0);
    const all = { name: 'all', count: sum('count'), gpu: sum('gpu'), host: sum('host'), share: sum('share') };
    const width = Math.max(6, ...rows.map((row) => row.name.length));
    return [
      `${'kernel'.padEnd(width)}   count     GPU ms   share    host ms`,
      ...[...rows, all].map(
        (r) =>
          `${r.name.padEnd(width)}  ${String(r.count).padStart(6)} ${r.gpu.toFixed(3).padStart(10)}  ` +
          `${(100 * r.share).toFixed(1).padStart(5)} % ${r.host.toFixed(3).padStart(10)}`,
      ),
    ].join('\n');
  }

  /** The events in Chrome's trace format, for about:tracing or Perfetto: the GPU's and the host's as two threads. */
  async chromeTrace(): Promise<string> {
    const traceEvents = (await this.events()).flatMap(({ name, start, gpu, hostStart, host }) => [
      { name, ph: 'X', pid: 1, tid: 1, ts: start * 1000, dur: gpu * 1000 },
      { name, ph: 'X', pid: 1, tid: 2, ts: hostStart * 1000, dur: host * 1000 },
    ]);
    const names = ['GPU', 'host'].map((name, i) => ({
      name: 'thread_name',
      ph: 'M',
      pid: 1,
      tid: i + 1,
      args: { name },
    }));
    return JSON.stringify({ traceEvents: [...names, ...traceEvents] });
  }
}
