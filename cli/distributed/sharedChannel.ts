// Moves buckets between ranks of one machine through memory that they share: worker threads copy pieces in and out, and
// a flag a piece says that it is there. Measured on two H200s (114 MB a rank, ms): one MPI_Allreduce 111, eight at once
// on communicators of their own 36, eight MPI_Allgathers 36, this 10. docs/scaling.md has the table.

import type { ExchangeChannel } from '../../models/train/exchange.ts';
import { RankLostError, type Communicator, type MpiLibrary } from './mpi.ts';
import type { Pointer } from './mpiAbi.ts';

/** Pieces that a part is cut into at most, and bytes below which it isn't worth while. */
const PIECES = 8,
  LEAST = 1 << 20;

/** Bytes of a cache line: flags of ranks must not share one. */
const LINE = 64;

interface Piece {
  readonly at: number;
  readonly bytes: number;
}

/** At most eight pieces of about the same size. */
export function piecesOf(bytes: number): Piece[] {
  const count = Math.max(1, Math.min(PIECES, Math.floor(bytes / LEAST)));
  const each = Math.ceil(bytes / count / 4096) * 4096;
  return Array.from({ length: Math.ceil(bytes / each) }, (_, k) => ({
    at: k * each,
    bytes: Math.min(each, bytes - k * each),
  }));
}

const lines = (bytes: number): number => Math.ceil(bytes / LINE) * LINE;

/** The shared memory of all channels, and its flags. */
export class SharedMemory {
  readonly rank: number;
  readonly size: number;
  private readonly mpi: MpiLibrary;
  private readonly window: ReturnType<Communicator['sharedMemory']>;
  private readonly parts: readonly Pointer[];
  private readonly flags: readonly Int32Array[];
  private readonly limit: number;
  private readonly polite: boolean;
  private waiting: {
    rank: number;
    flag: number;
    call: number;
    since: number;
    resolve: () => void;
    reject: (error: Error) => void;
  }[] = [];
  private polling = false;

  private constructor(mpi: MpiLibrary, ranks: Communicator, flags: number, bytes: number, options: SharedOptions) {
    this.mpi = mpi;
    this.rank = ranks.rank;
    this.size = ranks.size;
    this.limit = options.seconds * 1000;
    this.polite = options.polite;
    const header = lines(4 * flags);
    this.window = ranks.sharedMemory(header + bytes);
    const { parts } = this.window;
    this.flags = parts.map((part) => new Int32Array(mpi.view(part, 4 * flags)));
    this.flags[this.rank].fill(0);
    this.parts = parts.map((part) => part + BigInt(header));
  }

  /** Channels for so many bytes each. Collective; `ranks` must all be on this machine. */
  static async channels(
    mpi: MpiLibrary,
    ranks: Communicator,
    bytes: readonly number[],
    options: SharedOptions,
  ): Promise<{ readonly channels: SharedChannel[]; free(): void }> {
    const flags = PIECES * ranks.size;
    const places: number[] = [];
    let end = 0;
    for (const each of bytes) {
      places.push(end);
      end += 2 * lines(each);
    }
    const memory = new SharedMemory(mpi, ranks, flags * bytes.length, end, options);
    // Nobody writes a flag before everybody's are zero.
    await ranks.barrier();
    return {
      channels: bytes.map((each, k) => new SharedChannel(memory, k * flags, places[k], lines(each))),
      free: () => memory.window.free(),
    };
  }

  /** Copies into this rank's memory, then raises the flag. */
  async put(flag: number, call: number, from: Pointer, to: number, bytes: number): Promise<void> {
    await this.mpi.copy(this.parts[this.rank] + BigInt(to), from, bytes);
    Atomics.store(this.flags[this.rank], flag, call);
  }

  /** Copies out of another rank's memory as soon as its flag is raised. */
  async take(rank: number, flag: number, call: number, from: number, to: Pointer, bytes: number): Promise<void> {
    await this.raised(rank, flag, call);
    await this.mpi.copy(to, this.parts[rank] + BigInt(from), bytes);
  }

  address(buffer: ArrayBuffer): Pointer {
    return this.mpi.address(buffer);
  }

  private raised(rank: number, flag: number, call: number): Promise<void> {
    if (Atomics.load(this.flags[rank], flag) >= call) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.waiting.push({ rank, flag, call, since: performance.now(), resolve, reject });
      if (!this.polling) this.poll();
    });
  }

  private poll(): void {
    const now = performance.now();
    this.waiting = this.waiting.filter(({ rank, flag, call, since, resolve, reject }) => {
      if (Atomics.load(this.flags[rank], flag) >= call) resolve();
      else if (now - since > this.limit)
        reject(
          new RankLostError(`Rank ${rank} has sent no gradients for ${this.limit / 1000} s; it hangs or is gone.`),
        );
      else return true;
      return false;
    });
    this.polling = this.waiting.length > 0;
    if (!this.polling) return;
    // On a software adapter the processor that would spin is the GPU.
    if (this.polite) setTimeout(() => this.poll(), 1);
    else setImmediate(() => this.poll());
  }
}

export interface SharedOptions {
  /** How long another rank may take before it counts as gone. */
  readonly seconds: number;
  /** Wait with timers instead of spinning. */
  readonly polite: boolean;
}

/**
 * Each call uses the other half of its memory: when a rank writes a half again, everybody has raised a flag of the call
 * between, and so has finished reading this half.
 */
export class SharedChannel implements ExchangeChannel {
  private readonly memory: SharedMemory;
  private readonly flag: number;
  private readonly place: number;
  private readonly half: number;
  private calls = 0;

  /** @internal */
  constructor(memory: SharedMemory, flag: number, place: number, half: number) {
    this.memory = memory;
    this.flag = flag;
    this.place = place;
    this.half = half;
  }

  scatter(source: ArrayBuffer, target: ArrayBuffer): Promise<void> {
    const { rank, size } = this.memory;
    const part = source.byteLength / size;
    const pieces = piecesOf(part);
    const send = this.others().flatMap((to) =>
      pieces.map(({ at, bytes }, p) => ({ flag: to * PIECES + p, at: to * part + at, bytes })),
    );
    return this.move(source, send, target, (index) =>
      pieces.map(({ at, bytes }, p) => ({
        flag: rank * PIECES + p,
        from: rank * part + at,
        to: index * part + at,
        bytes,
      })),
    );
  }

  gather(source: ArrayBuffer, target: ArrayBuffer): Promise<void> {
    const pieces = piecesOf(source.byteLength);
    const send = pieces.map(({ at, bytes }, flag) => ({ flag, at, bytes }));
    return this.move(source, send, target, (index) =>
      pieces.map(({ at, bytes }, flag) => ({ flag, from: at, to: index * source.byteLength + at, bytes })),
    );
  }

  private others(): number[] {
    return Array.from({ length: this.memory.size }, (_, rank) => rank).filter((rank) => rank !== this.memory.rank);
  }

  private async move(
    source: ArrayBuffer,
    send: readonly { flag: number; at: number; bytes: number }[],
    target: ArrayBuffer,
    receive: (index: number) => { flag: number; from: number; to: number; bytes: number }[],
  ): Promise<void> {
    const { memory } = this;
    const call = ++this.calls;
    const place = this.place + (call % 2) * this.half;
    const [from, to] = [memory.address(source), memory.address(target)];
    await Promise.all([
      ...send.map(({ flag, at, bytes }) => memory.put(this.flag + flag, call, from + BigInt(at), place + at, bytes)),
      ...this.others().flatMap((rank, index) =>
        receive(index).map((piece) =>
          memory.take(rank, this.flag + piece.flag, call, place + piece.from, to + BigInt(piece.to), piece.bytes),
        ),
      ),
    ]);
  }
}
