// MPI through koffi: the few calls that training needs, without a compiled addon. Calls that may wait for other ranks
// run on worker threads and return promises; buffers are ArrayBuffers (also mapped ranges of the GPU) or addresses.

import type { LibraryHandle } from 'koffi';
import {
  COMM_TYPE_SHARED,
  OPEN_MPI,
  STATUS_IGNORE,
  THREAD_MULTIPLE,
  type MpiHandles,
  type MpiOp,
  type MpiType,
  type Pointer,
} from './mpiAbi.ts';

type Koffi = Pick<typeof import('koffi'), 'load' | 'address' | 'view'>;
type KoffiFunction = ReturnType<LibraryHandle['func']>;

/** Of messages: each communicator has one kind. */
const TAG = 1;

/** MPI or koffi is missing, or this machine doesn't allow what ranks need. */
export class MpiError extends Error {
  override name = 'MpiError';
}

/** Another rank is gone or silent, or a call failed, which is how MPI tells it. Others may go on from a checkpoint. */
export class RankLostError extends MpiError {
  override name = 'RankLostError';
}

const SIGNATURES = {
  Init_thread: 'int MPI_Init_thread(void*, void*, int, _Out_ int*)',
  Finalize: 'int MPI_Finalize()',
  Abort: 'int MPI_Abort(void*, int)',
  Comm_rank: 'int MPI_Comm_rank(void*, _Out_ int*)',
  Comm_size: 'int MPI_Comm_size(void*, _Out_ int*)',
  Comm_dup: 'int MPI_Comm_dup(void*, _Out_ void**)',
  Comm_free: 'int MPI_Comm_free(_Inout_ void**)',
  Comm_split_type: 'int MPI_Comm_split_type(void*, int, int, void*, _Out_ void**)',
  Comm_set_errhandler: 'int MPI_Comm_set_errhandler(void*, void*)',
  Error_string: 'int MPI_Error_string(int, void*, _Out_ int*)',
  Get_library_version: 'int MPI_Get_library_version(void*, _Out_ int*)',
  Send: 'int MPI_Send(const void*, int, void*, int, int, void*)',
  Recv: 'int MPI_Recv(void*, int, void*, int, int, void*, void*)',
  Iprobe: 'int MPI_Iprobe(int, int, void*, _Out_ int*, void*)',
  Barrier: 'int MPI_Barrier(void*)',
  Bcast: 'int MPI_Bcast(void*, int, void*, int, void*)',
  Allreduce: 'int MPI_Allreduce(const void*, void*, int, void*, void*, void*)',
  Allgather: 'int MPI_Allgather(const void*, int, void*, void*, int, void*, void*)',
  Alltoallv: 'int MPI_Alltoallv(const void*, void*, void*, void*, void*, void*, void*, void*, void*)',
  Win_allocate_shared: 'int MPI_Win_allocate_shared(intptr_t, int, void*, void*, _Out_ void**, _Out_ void**)',
  Win_shared_query: 'int MPI_Win_shared_query(void*, int, _Out_ intptr_t*, _Out_ int*, _Out_ void**)',
  Win_free: 'int MPI_Win_free(_Inout_ void**)',
} as const;

type Call = keyof typeof SIGNATURES;

/** Memory that MPI reads or writes. */
export type MpiBuffer = ArrayBuffer | ArrayBufferView | Pointer;

/** Memory with a part for each rank, in bytes. */
export interface MpiParts {
  readonly buffer: MpiBuffer;
  readonly counts: Int32Array;
  readonly places: Int32Array;
}

/** The library, loaded and not yet initialised. */
export class MpiLibrary {
  readonly file: string;
  /** As the library tells it, for example `Open MPI v4.1.4, package: …`. */
  readonly version: string;
  private readonly koffi: Koffi;
  private readonly functions: Readonly<Record<Call, KoffiFunction>>;
  private readonly memcpy: KoffiFunction;
  readonly handles: MpiHandles;

  private constructor(koffi: Koffi, library: LibraryHandle, file: string) {
    this.koffi = koffi;
    this.file = file;
    this.functions = Object.fromEntries(
      Object.entries(SIGNATURES).map(([name, signature]) => [name, library.func(signature)]),
    ) as Record<Call, KoffiFunction>;
    const libc = process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6';
    this.memcpy = koffi.load(libc).func('void* memcpy(void*, const void*, size_t)');
    this.handles = OPEN_MPI.handles((name) => library.symbol(name) as Pointer);
    const text = Buffer.alloc(8192);
    const length = [0];
    this.call('Get_library_version', text, length);
    this.version = text.toString('utf8', 0, length[0]).replace(/\0/g, '').trim();
  }

  /** @throws MpiError with a sentence that says what to install */
  static async load(): Promise<MpiLibrary> {
    const koffi = await import('koffi').then(
      (module) => module.default as unknown as Koffi,
      () => {
        throw new MpiError('Several GPUs need the npm package koffi, which is not installed; run `npm install koffi`.');
      },
    );
    for (const file of OPEN_MPI.libraries) {
      let library: LibraryHandle;
      try {
        // Open MPI's own plugins look its symbols up among the global ones.
        library = koffi.load(file, { global: true, lazy: true });
      } catch {
        continue;
      }
      return new MpiLibrary(koffi, library, file);
    }
    const how = process.platform === 'darwin' ? '`brew install open-mpi`' : '`apt-get install openmpi-bin`';
    throw new MpiError(
      `Several GPUs need Open MPI 4 or 5, and ${OPEN_MPI.libraries[0]} was not found; install it, for example with ${how}.`,
    );
  }

  /** Calls and waits on this thread. @throws MpiError */
  call(name: Call, ...args: unknown[]): void {
    this.check(name, this.functions[name](...args) as number);
  }

  /** Calls on a worker thread. */
  run(name: Call, ...args: unknown[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.functions[name].async(...args, (error: Error | null, status: number) => {
        try {
          if (error) throw error;
          this.check(name, status);
          resolve();
        } catch (failure) {
          reject(failure as Error);
        }
      });
    });
  }

  /** Copies memory on a worker thread. */
  copy(to: Pointer, from: Pointer, bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.memcpy.async(to, from, bytes, (error: Error | null) => (error ? reject(error) : resolve()));
    });
  }

  /** Memory at an address as the host's. */
  view(address: Pointer, bytes: number): ArrayBuffer {
    return this.koffi.view(address, bytes);
  }

  /** Where a buffer begins. */
  address(buffer: MpiBuffer): Pointer {
    return typeof buffer === 'bigint' ? buffer : this.koffi.address(buffer);
  }

  private check(name: Call, status: number): void {
    if (status === 0) return;
    const text = Buffer.alloc(1024);
    const length = [0];
    this.functions.Error_string(status, text, length);
    throw new RankLostError(`[MPI_${name}] ${text.toString('utf8', 0, length[0])}.`);
  }
}

/** Ranks that talk to each other. */
export class Communicator {
  readonly rank: number;
  readonly size: number;
  private readonly mpi: MpiLibrary;
  private handle: Pointer;

  /** @internal */
  constructor(mpi: MpiLibrary, handle: Pointer) {
    this.mpi = mpi;
    this.handle = handle;
    const value = [0];
    mpi.call('Comm_rank', handle, value);
    this.rank = value[0];
    mpi.call('Comm_size', handle, value);
    this.size = value[0];
    mpi.call('Comm_set_errhandler', handle, mpi.handles.errorsReturn);
  }

  /** Initialises MPI in this process and gives the communicator of all ranks. @throws MpiError */
  static world(mpi: MpiLibrary): Communicator {
    const provided = [0];
    mpi.call('Init_thread', null, null, THREAD_MULTIPLE, provided);
    if (provided[0] < THREAD_MULTIPLE)
      throw new MpiError('This MPI was built without MPI_THREAD_MULTIPLE, which is needed; install another build.');
    return new Communicator(mpi, mpi.handles.world);
  }

  /** Another communicator of the same ranks: calls on it don't wait for calls on this one. Collective. */
  duplicate(): Communicator {
    const made: Pointer[] = [0n];
    this.mpi.call('Comm_dup', this.handle, made);
    return new Communicator(this.mpi, made[0]);
  }

  /** The ranks of this one that share a machine's memory. Collective. */
  node(): Communicator {
    const made: Pointer[] = [0n];
    this.mpi.call('Comm_split_type', this.handle, COMM_TYPE_SHARED, this.rank, this.mpi.handles.infoNull, made);
    return new Communicator(this.mpi, made[0]);
  }

  barrier(): Promise<void> {
    return this.mpi.run('Barrier', this.handle);
  }

  /** Sends a few bytes to a rank, which get there whether or not it waits for them. */
  send(message: Uint8Array, rank: number): Promise<void> {
    return this.mpi.run('Send', message, message.length, this.mpi.handles.types.byte, rank, TAG, this.handle);
  }

  /** The same on this thread, for the last message of a rank. */
  sendNow(message: Uint8Array, rank: number): void {
    this.mpi.call('Send', message, message.length, this.mpi.handles.types.byte, rank, TAG, this.handle);
  }

  /** Overwrites `message` by what a rank has sent. @returns false where nothing is there */
  receive(message: Uint8Array, rank: number): boolean {
    const { mpi, handle } = this;
    const there = [0];
    mpi.call('Iprobe', rank, TAG, handle, there, STATUS_IGNORE);
    if (there[0] === 0) return false;
    mpi.call('Recv', message, message.length, mpi.handles.types.byte, rank, TAG, handle, STATUS_IGNORE);
    return true;
  }

  /** Overwrites `buffer` on every rank with what rank `root` holds. */
  broadcast(buffer: MpiBuffer, bytes: number, root = 0): Promise<void> {
    return this.mpi.run('Bcast', buffer, bytes, this.mpi.handles.types.byte, root, this.handle);
  }

  /** `out` = `values` of all ranks, combined. */
  allReduce(values: MpiBuffer, out: MpiBuffer, count: number, type: MpiType, op: MpiOp = 'sum'): Promise<void> {
    const { types, ops } = this.mpi.handles;
    return this.mpi.run('Allreduce', values, out, count, types[type], ops[op], this.handle);
  }

  /** `out` = the `bytes` of every rank, in the order of ranks. */
  allGather(values: MpiBuffer, out: MpiBuffer, bytes: number): Promise<void> {
    const { byte } = this.mpi.handles.types;
    return this.mpi.run('Allgather', values, bytes, byte, out, bytes, byte, this.handle);
  }

  /**
   * `counts[r]` bytes from `places[r]` on of what is sent go to rank r; what rank r sends to this one goes to its
   * place.
   */
  async allToAllParts(send: MpiParts, receive: MpiParts): Promise<void> {
    const { byte } = this.mpi.handles.types;
    await this.mpi.run(
      'Alltoallv',
      ...[send.buffer, send.counts, send.places, byte],
      ...[receive.buffer, receive.counts, receive.places, byte],
      this.handle,
    );
  }

  /** Memory that all ranks of one machine see: `bytes` of each. Collective. @returns where each rank's part begins */
  sharedMemory(bytes: number): { readonly parts: readonly Pointer[]; free(): void } {
    const base: Pointer[] = [0n],
      window: Pointer[] = [0n];
    const { mpi } = this;
    mpi.call('Win_allocate_shared', bytes, 1, mpi.handles.infoNull, this.handle, base, window);
    const parts = Array.from({ length: this.size }, (_, rank) => {
      const part: Pointer[] = [0n];
      mpi.call('Win_shared_query', window[0], rank, [0], [0], part);
      return part[0];
    });
    return { parts, free: () => mpi.call('Win_free', window) };
  }

  /** Ends every rank. MPI may wait for a network that is cut: it is called on a worker thread. */
  abort(status: number): void {
    this.mpi.run('Abort', this.handle, status).catch(() => {}); // it doesn't come back
  }

  free(): void {
    this.mpi.call('Comm_free', [this.handle]);
  }

  /** Leaves MPI; nothing may be called after it. */
  finalize(): void {
    this.mpi.call('Finalize');
  }
}
