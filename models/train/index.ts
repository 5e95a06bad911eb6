// The training loop.

export {
  Trainer,
  type Denoiser,
  type GivenDraws,
  type RunOptions,
  type StepRecord,
  type TrainerOptions,
  type TrainerState,
  type TrainingObjective,
} from './trainer.ts';
