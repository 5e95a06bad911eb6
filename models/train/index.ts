// The training loop.

export { Trainer } from './trainer.ts';
export type {
  Denoiser,
  GivenDraws,
  RunOptions,
  StepRecord,
  TrainerOptions,
  TrainerState,
  TrainingObjective,
} from './types.ts';
