// One of the two builds of --against: prepares a case and times a batch of it whenever asked.

import { capture, openDevice, scope, type CapturedStep, type Device } from '../core/index.ts';
import type { AgainstRequest } from './against.ts';
import { idOf, type Prepared } from './case.ts';
import { allCases } from './cases/index.ts';
import { serve } from './channel.ts';

/** Seconds that a batch should last. */
const BATCH = 0.1;

const now = (): number => performance.now() / 1000;

const state: { device: Device | null; prepared: Prepared | null; captured: CapturedStep<void> | null; count: number } = { device: null, prepared: null, captured: null, count: 1 };

function iteration(): void {
  if (state.captured) state.captured.replay();
  else state.prepared!.step();
}

async function time(iterations: number): Promise<number> {
  const begun = now();
  for (let i = 0; i < iterations; i++) iteration();
  await state.device!.synchronize();
  return (now() - begun) / iterations;
}

async function prepare({ id, tier, adapter }: Extract<AgainstRequest, { ask: 'prepare' }>): Promise<null> {
  const device = state.device ??= await openDevice({ tier, ...(adapter !== undefined && { adapter }) });
  const found = allCases().find((c) => idOf(c) === id);
  if (!found) throw new Error(`This build has no case ${JSON.stringify(id)}.`);
  const prepared = state.prepared = await found.prepare(device);
  if (prepared.capture === 'none') {
    prepared.step();
  } else {
    const step = (): void => scope(() => { prepared.step(); });
    step();
    await device.synchronize();
    state.captured = capture(device, step);
  }
  await time(1);
  state.count = Math.max(1, Math.min(1024, Math.ceil(BATCH / await time(1))));
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

await serve(async (request: AgainstRequest): Promise<unknown> => (request.ask === 'prepare' ? prepare(request) : request.ask === 'time' ? time(state.count) : dispose()));
state.device?.destroy();
