// What the exchange benchmark measures, as its ranks print it and as it is kept.

import type { Tier } from '../../core/index.ts';
import type { DisName } from '../../models/dis/index.ts';

/** What a rank is to do. */
export interface RankWork {
  readonly tier: Tier;
  readonly oversubscribe: boolean;
  /** Sizes of buckets. */
  readonly megabytes: readonly number[];
  readonly training: readonly TrainingWork[];
  /** Seconds of training that are measured. */
  readonly seconds: number;
}

export interface TrainingWork {
  readonly model: DisName;
  readonly imgSize: number;
  /** Images of all ranks. */
  readonly batch: number;
  readonly precision: 'f32' | 'f16';
}

/** Times are medians in milliseconds. */
export interface BucketResult {
  readonly kind: 'bucket';
  readonly ranks: number;
  readonly megabytes: number;
  readonly transport: string;
  /** From the GPU to memory that the host sees. */
  readonly copyDown: number;
  /** To the other ranks and from them. */
  readonly gather: number;
  /** What came, to the GPU. */
  readonly copyUp: number;
  /** The same bytes by one MPI_Allreduce, and by eight at once on communicators of their own. */
  readonly allReduce: number;
  readonly allReducePieces: number;
}

export interface TrainingResult extends TrainingWork {
  readonly kind: 'training';
  readonly ranks: number;
  readonly adapter: string;
  readonly driver: string;
  readonly tier: Tier;
  /** Steps that were measured. */
  readonly steps: number;
  readonly imagesPerSecond: number;
  /** Median milliseconds of a step. */
  readonly step: number;
  /** Median milliseconds of a step in the exchange, see `ExchangeTimes`. */
  readonly exchange?: {
    readonly span: number;
    readonly exposed: number;
    readonly moving: number;
    readonly encoding: number;
  };
}

export interface ExchangeResult {
  readonly commit: string;
  readonly date: string;
  readonly machine: string;
  readonly buckets: readonly BucketResult[];
  readonly training: readonly TrainingResult[];
}
