// The training loop.

export { officialStateJson, officialTrainerState, type OfficialStateOptions } from './officialState.ts';
export { Trainer } from './trainer.ts';
export type {
  Denoiser,
  GivenDraws,
  LocalStepsOptions,
  RunOptions,
  StepRecord,
  TrainerOptions,
  TrainerState,
  TrainingObjective,
} from './types.ts';
