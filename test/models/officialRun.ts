// A run of the official train.py, small enough to be here: its checkpoint in both forms, and what its next steps gave.
// next.json says how it was computed.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readSafetensors, type SafetensorsEntry } from '../../nn/formats/safetensors.ts';

export interface NextStep {
  readonly loss: number;
  readonly mse: number;
  readonly vb: number;
  readonly gradNorm: number;
  readonly lr: number;
}

export interface OfficialRun {
  readonly config: Record<string, unknown>;
  readonly args: Record<string, unknown>;
  readonly step: number;
  readonly steps_per_epoch: number;
  readonly ema_decay: number;
  readonly next: readonly NextStep[];
}

/** Path of a file of the run: zip.pt, legacy.pt, next.json, next.safetensors. */
export const officialPath = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/official/${name}`, import.meta.url));

export const officialRun = (): OfficialRun =>
  JSON.parse(readFileSync(officialPath('next.json'), 'utf8')) as OfficialRun;

/** Inputs of the next steps (`in.*`, a row a step), parameters and averages after them. */
export const officialNext = (): Map<string, SafetensorsEntry> =>
  readSafetensors(readFileSync(officialPath('next.safetensors'))).tensors;
