// What training on several GPUs asks of whatever moves bytes between them. Each rank is a process (or a trainer) with
// its own GPU and computes its part of every batch; the trainer does everything that concerns gradients, and this only
// moves memory.

/** Moves the memory of one bucket, again and again. A call begins only after the one before it is done. */
export interface ExchangeChannel {
  /**
   * Part r of `source`, which has a part of the same size for each rank, goes to rank r. `target` gets the other ranks'
   * parts for this one, in the order of ranks; it may be slow to read and is only written.
   */
  scatter(source: ArrayBuffer, target: ArrayBuffer): Promise<void>;
  /** All of `source` goes to every rank; `target` gets that of the other ranks, in the order of ranks. */
  gather(source: ArrayBuffer, target: ArrayBuffer): Promise<void>;
}

/** Ranks that train together. All of them make the same calls in the same order. */
export interface GradientExchange {
  readonly rank: number;
  readonly ranks: number;
  /** Makes a channel for each number of bytes, the most that a rank sends in one call. */
  open(bytes: readonly number[]): Promise<readonly ExchangeChannel[]>;
  /** The numbers of all ranks, in the order of ranks. */
  gatherNumbers(values: Float64Array): Promise<readonly Float64Array[]>;
}

/** What a step's exchange took, in seconds. */
export interface ExchangeTimes {
  /** In which gradients were on their way, from the first bucket that was complete to the last that was summed. */
  readonly span: number;
  /** Of it, after this rank's backward was done: what the step waited for. */
  readonly exposed: number;
  /** In which this rank's buckets were moved between memories, summed over buckets. */
  readonly moving: number;
  /** In which the host encoded the step. */
  readonly encoding: number;
}

/**
 * Exchanges between trainers of one process, one a rank: for tests, and for two devices of one program.
 */
export function localExchange(ranks: number): GradientExchange[] {
  const posted = new Map<
    string,
    { data: (ArrayBuffer | Float64Array)[]; arrived: number; ready: Promise<void>; go: () => void }
  >();
  const meet = async <T extends ArrayBuffer | Float64Array>(key: string, rank: number, data: T): Promise<T[]> => {
    let place = posted.get(key);
    if (!place) {
      let go = (): void => {};
      const ready = new Promise<void>((resolve) => (go = resolve));
      posted.set(key, (place = { data: [], arrived: 0, ready, go }));
    }
    place.data[rank] = data;
    if (++place.arrived === ranks) {
      posted.delete(key);
      place.go();
    }
    await place.ready;
    return place.data as T[];
  };
  return Array.from({ length: ranks }, (_, rank) => {
    let gathers = 0,
      channels = 0;
    const others = <T>(all: readonly T[]): T[] => all.filter((_, r) => r !== rank);
    const channel = (id: number): ExchangeChannel => {
      let calls = 0;
      const move = async (
        source: ArrayBuffer,
        target: ArrayBuffer,
        part: (from: ArrayBuffer) => Uint8Array,
      ): Promise<void> => {
        const call = calls++;
        const from = others(await meet(`${id}:${call}`, rank, source));
        const to = new Uint8Array(target);
        let at = 0;
        for (const bytes of from.map(part)) {
          to.set(bytes, at);
          at += bytes.length;
        }
        // The sources stay mapped until everybody has read them.
        await meet(`${id}:${call}:done`, rank, source);
      };
      return {
        scatter: (source, target) =>
          move(source, target, (from) => {
            const bytes = from.byteLength / ranks;
            return new Uint8Array(from, rank * bytes, bytes);
          }),
        gather: (source, target) => move(source, target, (from) => new Uint8Array(from)),
      };
    };
    return {
      rank,
      ranks,
      open: (bytes) => Promise.resolve(bytes.map(() => channel(channels++))),
      gatherNumbers: (values) => meet(`numbers:${gathers++}`, rank, values),
    };
  });
}
