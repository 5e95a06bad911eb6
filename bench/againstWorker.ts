// One of the two builds of --against: prepares a case and times a batch of it whenever asked.

import { capture, openDevice, scope, type CapturedStep, type Device } from '../core/index.ts';
import { warmUp } from '../core/tuning/warmUp.ts';
import type { AgainstRequest } from './against.ts';
import { idOf, type Prepared } from './case.ts';
import { allCases } from './cases/index.ts';
import { serve } from './channel.ts';
import { captureRepeated, repeatsFor } from './measure.ts';

/** Seconds that a batch should last. */
const BATCH = 0.1;

const now = (): number => performance.now() / 1000;

const state: {
  device: Device | null;
  prepared: Prepared | null;
  captured: CapturedStep<void> | null;
  repeats: number;
  count: number;
} = { device: null, prepared: null, captured: null, repeats: 1, count: 1 };

function iteration(): void {
  if (state.captured) state.captured.replay();
  else state.prepared!.step();
}

/** Seconds that the work takes once. */
async function time(iterations: number): Promise<number> {
  const begun = now();
  for (let i = 0; i < iterations; i++) iteration();
  await state.device!.synchronize();
  return (now() - begun) / (iterations * state.repeats);
}

async function prepare({ id, tier, adapter }: Extract<AgainstRequest, { ask: 'prepare' }>): Promise<null> {
  const device = (state.device ??= await openDevice({ tier, ...(adapter !== undefined && { adapter }) }));
  const found = allCases().find((c) => idOf(c) === id);
  if (!found) throw new Error(`This build has no case ${JSON.stringify(id)}.`);
  const prepared = (state.prepared = await found.prepare(device));
  state.repeats = 1;
  if (prepared.capture === 'none') {
    prepared.step();
  } else {
    const step = (): void =>
      scope(() => {
        prepared.step();
      });
    step();
    await device.synchronize();
    const captured = (state.captured = capture(device, step));
    await time(1);
    await warmUp(device);
    const repeats = repeatsFor(captured.plan.dispatches, await time(1), BATCH);
    if (repeats > 1) {
      captured.dispose();
      state.captured = null;
      state.captured = captureRepeated(device, step, repeats);
      state.repeats = repeats;
    }
  }
  await time(1);
  await warmUp(device);
  state.count = Math.max(1, Math.min(1024, Math.ceil(BATCH / ((await time(1)) * state.repeats))));
  return null;
}

function dispose(): null {
  state.captured?.dispose();
  state.prepared?.dispose();
  state.captured = state.prepared = null;
  try {
    state.device?.check();
    state.device?.trim();
  } catch {
    // A device that failed once fails always.
    state.device?.destroy();
    state.device = null;
  }
  return null;
}

/** A batch, on a GPU that is at its speed: while the other build was asked this one waited. */
async function timeWarm(): Promise<number> {
  await warmUp(state.device!);
  return time(state.count);
}

await serve(async (request: AgainstRequest): Promise<unknown> =>
  request.ask === 'prepare' ? prepare(request) : request.ask === 'time' ? timeWarm() : dispose(),
);
state.device?.destroy();
