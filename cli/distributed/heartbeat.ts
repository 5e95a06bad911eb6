// Signs of life between ranks. Ranks wait for each other in MPI, which waits for ever: where one is stopped, or the
// network is cut without a word, the others notice that its signs of life stop coming, whatever they wait for.

import { RankLostError, type Communicator } from './mpi.ts';

/** What a sign of life says. */
const ALIVE = 0,
  /** No more signs will come. */
  LEAVING = 1,
  /** The rank fails and has said why. */
  SPOKEN = 2;

/** How often signs are sent at most, ms. */
const INTERVAL = 1000;

export interface HeartbeatOptions {
  /** How long another rank may be silent. */
  readonly seconds: number;
  /** The machine of each rank. */
  readonly hosts: readonly string[];
  /** Told once. `silent` are the ranks that are. */
  readonly onSilent: (error: RankLostError, silent: readonly number[]) => void;
}

interface Other {
  readonly rank: number;
  /** How long nothing came, ms. */
  silence: number;
  leaving: boolean;
  /** The sign that is on its way: a rank that is silent gets no more. */
  sending: Promise<void> | undefined;
}

/** Sends signs of life to all other ranks and watches theirs, until all have left. */
export class Heartbeat {
  private readonly ranks: Communicator;
  private readonly options: HeartbeatOptions;
  private readonly others: readonly Other[];
  private readonly interval: number;
  private readonly timer: NodeJS.Timeout;
  private last = performance.now();
  private told = false;
  private leaving = false;
  private closed = false;
  private spokenBy = false;

  /** @param ranks nobody else uses it */
  constructor(ranks: Communicator, options: HeartbeatOptions) {
    this.ranks = ranks;
    this.options = options;
    this.others = Array.from({ length: ranks.size }, (_, rank) => rank)
      .filter((rank) => rank !== ranks.rank)
      .map((rank) => ({ rank, silence: 0, leaving: false, sending: undefined }));
    this.interval = Math.min(INTERVAL, options.seconds * 100);
    this.timer = setInterval(() => this.beat(), this.interval);
    this.timer.unref();
  }

  /** Tells the others that no more signs will come, and sends none. The others are still watched. */
  async leave(): Promise<void> {
    this.leaving = true;
    for (const { rank, sending } of this.others) {
      await sending;
      await this.ranks.send(Uint8Array.of(LEAVING), rank);
    }
  }

  /** Ends; call it when all ranks have left. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    // MPI may not end with messages that nobody has received.
    while (this.others.some(({ leaving }) => !leaving)) {
      for (const other of this.others) this.read(other);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    this.closed = true;
    this.ranks.free();
  }

  /** Tells the others, before this rank ends all of them, that it has said why. */
  speak(): void {
    for (const { rank, silence } of this.others)
      if (silence < this.options.seconds * 500) this.ranks.sendNow(Uint8Array.of(SPOKEN), rank);
  }

  /** Whether another rank has said why it ends all of them. */
  get spoken(): boolean {
    if (!this.closed) for (const other of this.others) this.read(other);
    return this.spokenBy;
  }

  private beat(): void {
    const now = performance.now();
    // Where this process itself stood still, the others' signs are there and only have to be read.
    const passed = Math.min(now - this.last, 2 * this.interval);
    this.last = now;
    try {
      for (const other of this.others) this.exchange(other, passed);
    } catch (error) {
      if (error instanceof RankLostError) this.tell(error, []);
      else throw error;
    }
    const limit = this.options.seconds * 1000;
    const watched = this.others.filter(({ leaving }) => !leaving);
    if (!watched.some(({ silence }) => silence > limit)) return;
    // Those of one machine fall silent together, but not in the same millisecond.
    const silent = watched.filter(({ silence }) => silence > limit - 2 * this.interval).map(({ rank }) => rank);
    this.tell(new RankLostError(silence(silent, this.options)), silent);
  }

  private exchange(other: Other, passed: number): void {
    other.silence += passed;
    this.read(other);
    if (other.sending || this.leaving) return;
    // A failure shows in the other's silence.
    other.sending = this.ranks.send(Uint8Array.of(ALIVE), other.rank).then(
      () => (other.sending = undefined),
      () => {},
    );
  }

  private read(other: Other): void {
    const message = new Uint8Array(1);
    while (this.ranks.receive(message, other.rank)) {
      other.silence = 0;
      other.leaving ||= message[0] === LEAVING;
      this.spokenBy ||= message[0] === SPOKEN;
    }
  }

  private tell(error: RankLostError, silent: readonly number[]): void {
    if (this.told) return;
    this.told = true;
    clearInterval(this.timer);
    this.options.onSilent(error, silent);
  }
}

/** The sentence for ranks that are silent. */
export function silence(
  silent: readonly number[],
  { seconds, hosts }: Pick<HeartbeatOptions, 'seconds' | 'hosts'>,
): string {
  const several = silent.length > 1;
  const where = [...new Set(silent.map((rank) => hosts[rank]))];
  return (
    `${several ? 'Ranks' : 'Rank'} ${silent.join(', ')} on ${where.join(', ')} ${several ? 'have' : 'has'} given no ` +
    `sign of life for ${seconds} s (--rank-timeout): ${several ? 'they hang' : 'it hangs'}, or the network is cut.`
  );
}
