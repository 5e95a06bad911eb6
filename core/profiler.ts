// GPU time of every dispatch, from timestamp queries, with the host's time beside it.

import type { Device } from './device.ts';
import { LimitError } from './errors.ts';

/** One measured dispatch. Times in milliseconds; `start` counts from the first dispatch. */
export interface ProfileEvent {
  readonly name: string;
  readonly start: number;
  readonly gpu: number;
  /** When the host encoded it, from the beginning of the profile. */
  readonly host: number;
}

/** Sums over all dispatches of one kernel. */
export interface ProfileRow {
  readonly name: string;
  readonly count: number;
  readonly gpu: number;
  readonly share: number;
}

const CAPACITY = 2048;

interface Batch {
  set: GPUQuerySet;
  names: string[];
  hosts: number[];
  result: GPUBuffer | null;
}

export class Profiler {
  private readonly device: Device;
  private readonly begun = performance.now();
  private open: Batch | null = null;
  private readonly waiting: Batch[] = [];
  private readonly batches: { names: string[]; hosts: number[]; times: BigUint64Array }[] = [];

  /** @throws LimitError where the adapter has no timestamp queries */
  constructor(device: Device) {
    if (!device.has('timestamp-query')) throw new LimitError('[profiler] The adapter has no timestamp queries; measure whole steps by the clock.');
    this.device = device;
  }

  beginPass(encoder: GPUCommandEncoder, name: string): GPUComputePassEncoder {
    this.open ??= { set: this.device.gpu.createQuerySet({ type: 'timestamp', count: CAPACITY }), names: [], hosts: [], result: null };
    const index = this.open.names.length * 2;
    this.open.names.push(name);
    this.open.hosts.push(performance.now() - this.begun);
    return encoder.beginComputePass({
      timestampWrites: { querySet: this.open.set, beginningOfPassWriteIndex: index, endOfPassWriteIndex: index + 1 },
    });
  }

  /** Called by the stream before it submits. */
  resolve(encoder: GPUCommandEncoder): void {
    const batch = this.open;
    if (!batch) return;
    const bytes = batch.names.length * 16;
    const QUERY_RESOLVE_COPY_SRC = 0x200 | 0x4, MAP_READ_COPY_DST = 0x1 | 0x8;
    const resolved = this.device.gpu.createBuffer({ size: bytes, usage: QUERY_RESOLVE_COPY_SRC });
    batch.result = this.device.gpu.createBuffer({ size: bytes, usage: MAP_READ_COPY_DST });
    encoder.resolveQuerySet(batch.set, 0, batch.names.length * 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, batch.result, 0, bytes);
    this.waiting.push(batch);
    this.open = null;
  }

  submitted(): void { /* results are read in `events` */ }

  /** Every dispatch measured so far, in order. */
  async events(): Promise<ProfileEvent[]> {
    this.device.stream.flush();
    for (const batch of this.waiting.splice(0)) {
      if (!batch.result) continue;
      await batch.result.mapAsync(1);
      this.batches.push({ names: batch.names, hosts: batch.hosts, times: new BigUint64Array(batch.result.getMappedRange().slice(0)) });
      batch.result.destroy();
      batch.set.destroy();
    }
    const origin = this.batches[0]?.times[0] ?? 0n;
    return this.batches.flatMap(({ names, hosts, times }) => names.map((name, i) => ({
      name,
      start: Number(times[2 * i] - origin) / 1e6,
      gpu: Number(times[2 * i + 1] - times[2 * i]) / 1e6,
      host: hosts[i],
    })));
  }

  /** Kernels by GPU time, the slowest first. */
  async rows(): Promise<ProfileRow[]> {
    const sums = new Map<string, { count: number; gpu: number }>();
    let total = 0;
    for (const event of await this.events()) {
      const sum = sums.get(event.name) ?? { count: 0, gpu: 0 };
      sum.count++;
      sum.gpu += event.gpu;
      total += event.gpu;
      sums.set(event.name, sum);
    }
    return [...sums].map(([name, { count, gpu }]) => ({ name, count, gpu, share: total ? gpu / total : 0 })).sort((a, b) => b.gpu - a.gpu);
  }

  /** The rows as text. */
  async table(): Promise<string> {
    const rows = await this.rows();
    const width = Math.max(6, ...rows.map((row) => row.name.length));
    return [`${'kernel'.padEnd(width)}   count     GPU ms   share`,
      ...rows.map((r) => `${r.name.padEnd(width)}  ${String(r.count).padStart(6)} ${r.gpu.toFixed(3).padStart(10)}  ${(100 * r.share).toFixed(1).padStart(5)} %`),
    ].join('\n');
  }

  /** The events in Chrome's trace format, for about:tracing or Perfetto. */
  async chromeTrace(): Promise<string> {
    const traceEvents = (await this.events()).flatMap((event) => [
      { name: event.name, ph: 'X', pid: 1, tid: 1, ts: event.start * 1000, dur: event.gpu * 1000 },
      { name: event.name, ph: 'i', pid: 1, tid: 2, ts: event.host * 1000, s: 't' },
    ]);
    const names = [{ name: 'thread_name', ph: 'M', pid: 1, tid: 1, args: { name: 'GPU' } }, { name: 'thread_name', ph: 'M', pid: 1, tid: 2, args: { name: 'host: encoded' } }];
    return JSON.stringify({ traceEvents: [...names, ...traceEvents] });
  }
}
