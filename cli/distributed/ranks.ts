// The ranks of a distributed run: what the trainer exchanges gradients by, and what the command line tells the others.

import { statfs } from 'node:fs/promises';
import { hostname } from 'node:os';
import type { ExchangeChannel, GradientExchange } from '../../models/train/exchange.ts';
import { isRunning } from '../processes.ts';
import { Heartbeat } from './heartbeat.ts';
import { messageChannels } from './messageChannel.ts';
import { Communicator, MpiLibrary, type RankLostError } from './mpi.ts';
import { SharedMemory } from './sharedChannel.ts';

/** How long another rank may give no sign of life, in seconds, where nothing else is said. */
export const RANK_TIMEOUT = 30;

/** Characters of a machine's name that ranks tell each other. */
const NAME = 64;

/** Where Open MPI has the memory that ranks share, on Linux. */
const SHARED_MEMORY = '/dev/shm';

/** This process among those that `mpirun` started. */
export class Ranks implements GradientExchange {
  readonly rank: number;
  readonly ranks: number;
  /** As MPI tells it. */
  readonly version: string;
  /** How gradients travel; known when the first channels are opened. */
  transport: 'shared memory' | 'messages' | undefined;
  polite = false;
  /** Where all ranks are on one machine, let gradients travel through memory that they share. */
  shareMemory = true;
  /** How long another rank may be silent, seconds. */
  private readonly seconds: number;
  private hosts: readonly string[] = [];
  private processes: readonly number[] = [];
  private heartbeat: Heartbeat | undefined;
  private readonly mpi: MpiLibrary;
  private readonly world: Communicator;
  private readonly numbers: Communicator;
  private readonly opened: { free(): void }[] = [];
  private last: Promise<unknown> = Promise.resolve();

  private constructor(mpi: MpiLibrary, world: Communicator, seconds: number) {
    this.mpi = mpi;
    this.seconds = seconds;
    this.version = mpi.version;
    this.world = world;
    this.rank = world.rank;
    this.ranks = world.size;
    this.numbers = world.duplicate();
  }

  /** Joins the other ranks. Call it once a process. @throws MpiError */
  static async join({ seconds = RANK_TIMEOUT }: { readonly seconds?: number } = {}): Promise<Ranks> {
    const mpi = await MpiLibrary.load();
    const ranks = new Ranks(mpi, Communicator.world(mpi), seconds);
    const name = Float64Array.from({ length: NAME }, (_, i) => hostname().charCodeAt(i) || 0);
    const all = await ranks.gatherNumbers(Float64Array.of(process.pid, ...name));
    ranks.processes = all.map(([pid]) => pid);
    ranks.hosts = all.map(([, ...codes]) => String.fromCharCode(...codes.filter((code) => code > 0)));
    return ranks;
  }

  /** Begins to exchange signs of life with the other ranks. All ranks call it, once. */
  watch(onSilent: (error: RankLostError, silent: readonly number[]) => void): void {
    const { seconds, hosts } = this;
    this.heartbeat = new Heartbeat(this.world.duplicate(), { seconds, hosts, onSilent });
  }

  /**
   * Whether this rank speaks for all that are left: the first living one of rank 0's machine, where mpirun is; where
   * rank 0 has a machine for itself, the first of the next machine too, as it cannot tell.
   */
  speaker(alive: (rank: number) => boolean): boolean {
    const { hosts, rank } = this;
    const first = hosts.findIndex((host, r) => host === hosts[rank] && alive(r));
    const next = hosts.findIndex((host) => host !== hosts[0]);
    const alone = hosts.filter((host) => host === hosts[0]).length === 1;
    return first === rank && (hosts[rank] === hosts[0] || (alone && hosts[rank] === hosts[next]));
  }

  /** Whether a rank's process runs; said of this machine's. */
  seemsAlive(rank: number): boolean {
    return this.hosts[rank] !== this.hosts[this.rank] || isRunning(this.processes[rank]);
  }

  /** Tells the other ranks that this one has said why it will end all of them. */
  speak(): void {
    this.heartbeat?.speak();
  }

  /** Whether another rank has said why it ends all of them. */
  get spoken(): boolean {
    return this.heartbeat?.spoken ?? false;
  }

  async open(bytes: readonly number[]): Promise<readonly ExchangeChannel[]> {
    // What MPI does on this thread would keep this rank from giving signs of life while it waits for others.
    await this.barrier();
    const node = this.world.node();
    const needed = 2.2 * bytes.reduce((sum, each) => sum + each, 0) * node.size;
    const fits = this.shareMemory && node.size === this.ranks && (await this.room()) > needed;
    const everybody = (await this.gatherNumbers(Float64Array.of(Number(fits)))).every(([value]) => value === 1);
    this.transport = everybody ? 'shared memory' : 'messages';
    const { polite } = this;
    // A rank that gives signs of life may still have a GPU that hangs.
    const seconds = 2 * this.seconds;
    if (everybody) {
      const shared = await SharedMemory.channels(this.mpi, node, bytes, { seconds, polite });
      this.opened.push(shared, node);
      return shared.channels;
    }
    node.free();
    const messages = this.world.duplicate();
    this.opened.push(messages);
    return messageChannels(messages, bytes.length, seconds);
  }

  /** The numbers of all ranks. Calls queue up: they are the same on all ranks, in the same order. */
  gatherNumbers(values: Float64Array): Promise<readonly Float64Array[]> {
    return this.inTurn(async () => {
      const all = new Float64Array(values.length * this.ranks);
      await this.numbers.allGather(values, all, values.byteLength);
      return Array.from({ length: this.ranks }, (_, r) => all.slice(r * values.length, (r + 1) * values.length));
    });
  }

  /** Waits until every rank has come here, however long that takes. */
  barrier(): Promise<void> {
    return this.inTurn(() => this.numbers.barrier());
  }

  /** What rank 0 has, on every rank: plain JSON. */
  async broadcast<T>(value: T): Promise<T> {
    const bytes = Buffer.from(JSON.stringify(value ?? null));
    const [length] = await this.broadcastBytes(Float64Array.of(bytes.length));
    const text = await this.broadcastBytes(this.rank === 0 ? bytes : Buffer.alloc(length));
    return JSON.parse(Buffer.from(text.buffer, text.byteOffset, text.byteLength).toString()) as T;
  }

  /** Overwrites `values` with those of rank 0. */
  broadcastBytes<T extends ArrayBufferView & { readonly length: number }>(values: T): Promise<T> {
    return this.inTurn(async () => {
      if (values.byteLength > 0) await this.numbers.broadcast(values, values.byteLength);
      return values;
    });
  }

  /** Another communicator of all ranks. All of them make it together. */
  communicator(): Communicator {
    return this.world.duplicate();
  }

  /** Where a buffer begins. */
  address(buffer: ArrayBuffer): bigint {
    return this.mpi.address(buffer);
  }

  /** Ends all ranks at once. */
  abort(status: number): void {
    this.world.abort(status);
  }

  /** Leaves; the last call. All ranks come here together. */
  async leave(): Promise<void> {
    await this.heartbeat?.leave();
    await this.barrier();
    await this.heartbeat?.close();
    // MPI may not end with shared memory in use.
    for (const resource of this.opened.splice(0)) resource.free();
    this.numbers.free();
    this.world.finalize();
  }

  private inTurn<T>(call: () => Promise<T>): Promise<T> {
    const done = this.last.then(call);
    this.last = done.catch(() => {});
    return done;
  }

  private async room(): Promise<number> {
    try {
      const { bavail, bsize } = await statfs(SHARED_MEMORY);
      return bavail * bsize;
    } catch {
      return process.platform === 'linux' ? 0 : Infinity;
    }
  }
}
