// The page: buttons and numbers around a session.

import { AdapterError, DeviceLostError, EngineError, errorSentence, openDevice, type Device } from 'dis-webgpu/core';
import { disParameterCount, type DisName, type StepRecord } from 'dis-webgpu/models';
import { LossChart } from './lossChart.ts';
import { memoryWarning } from './memory.ts';
import { SampleSheet } from './sampleSheet.ts';
import { modelConfig, readCheckpoint, Session, writeCheckpoint, type Checkpoint, type RunSettings } from './session.ts';

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const button = (id: string): HTMLButtonElement => element<HTMLButtonElement>(id);
const input = (id: string): HTMLInputElement => element<HTMLInputElement>(id);

const form = element<HTMLFormElement>('controls');
const model = element<HTMLSelectElement>('model');
const chart = new LossChart(element<HTMLCanvasElement>('chart'));
const sheet = new SampleSheet(element('sheet'), input('history'), element('caption'));

/** DDIM steps of a preview, fewer where the GPU is a CPU, and those that `Draw more` takes its time for. */
const STEPS = { hardware: 20, software: 10, best: 50 };

let device: Device | null = null;
let session: Session | null = null;
/** What a lost device is recovered from: the run as it was at the last preview. */
let snapshot: Checkpoint | null = null;
let training = false;
let busy = false;
let seed = 0;
let interrupt = new AbortController();
/** The session does one thing after the other. */
let turn: Promise<unknown> = Promise.resolve();

/** Waits until nothing is under way, stopping the training for the moment, and runs `work`. */
function inTurn(work: () => Promise<void>): Promise<void> {
  interrupt.abort();
  const next = turn.then(work);
  turn = next.catch(() => {});
  return next;
}

// ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async function train(): Promise<void> {
  training = true;
  while (training && session && !session.done) {
    const current = session;
    await inTurn(() => trainUntilInterrupted(current));
  }
  if (session?.done)
    say(`Finished after ${grouped(session.step)} steps. Draw more, keep the checkpoint, or begin a new run.`);
  training = false;
  refresh();
}

async function trainUntilInterrupted(current: Session): Promise<void> {
  interrupt = new AbortController();
  if (!training) return;
  const every = Math.max(1, input('every').valueAsNumber || 100);
  for await (const record of current.train(interrupt.signal, every)) {
    note(record);
    if (record.step % every === 0 || (current.done && record.step === current.step)) await preview(current);
  }
}

let speed = 0;

function note({ step, loss, imagesPerSecond, skipped }: StepRecord): void {
  const { steps, batchSize } = session!.settings;
  chart.add(step, loss);
  speed = speed ? 0.9 * speed + 0.1 * imagesPerSecond : imagesPerSecond;
  show('step', grouped(step), `of ${grouped(steps)}`);
  show('loss', Number.isFinite(chart.mean) ? chart.mean.toPrecision(3) : '–');
  show('rate', speed >= 100 ? grouped(Math.round(speed)) : speed.toPrecision(3));
  const seconds = batchSize / speed;
  if (seconds < 1) show('time', (1000 * seconds).toPrecision(3), 'ms');
  else show('time', seconds.toPrecision(3), 's');
  say(
    skipped
      ? `Step ${grouped(step)} was left out: its gradient is not finite. A lower learning rate helps.`
      : 'Training.',
  );
}

async function preview(current: Session): Promise<void> {
  // Always from the same noise, so that previews show what the model has learnt in between.
  await drawSamples(current, STEPS[device?.adapter.software ? 'software' : 'hardware'], 0);
  snapshot = await current.checkpoint();
}

async function drawSamples(current: Session, steps: number, noise: number): Promise<void> {
  const { step, weights } = current;
  let images!: Float32Array;
  await current.sample({
    rows: sheet.rows,
    steps,
    seed: noise,
    onStep: (expected, done) => {
      images = expected;
      sheet.show(expected);
      say(`Drawing samples: denoising step ${done} of ${steps}.`);
    },
  });
  const by = weights === 'own' ? 'the weights as they are' : 'the moving average of the weights';
  sheet.add({
    step,
    images,
    caption: `Step ${grouped(step)}, drawn with ${by} in ${steps} DDIM steps. The first row is from the data set.`,
  });
}

// ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

function settingsOfForm(): RunSettings {
  return {
    model: model.value as DisName,
    batchSize: input('batch').valueAsNumber,
    lr: input('lr').valueAsNumber,
    steps: input('steps').valueAsNumber,
  };
}

/** Begins a run in the place of the present one, or goes on with a stored one. */
async function begin(checkpoint: Pick<Checkpoint, 'settings'> & Partial<Checkpoint>): Promise<void> {
  const { settings, state } = checkpoint;
  const next = new Session(device!, settings, state);
  session?.dispose();
  session = next;
  snapshot = null;
  await clear(next);
  model.value = settings.model;
  input('batch').valueAsNumber = settings.batchSize;
  input('lr').valueAsNumber = settings.lr;
  input('steps').valueAsNumber = settings.steps;
}

/** Takes away what was shown of another run. */
async function clear(next?: Session): Promise<void> {
  speed = 0;
  chart.clear();
  if (next) show('step', grouped(next.step), `of ${grouped(next.settings.steps)}`);
  else show('step', '0');
  for (const id of ['loss', 'rate', 'time']) show(id, '–');
  await sheet.clear();
}

// ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────

const grouped = (n: number): string => n.toLocaleString('en');

function show(id: string, value: string, unit = ''): void {
  const small = document.createElement('small');
  small.textContent = unit;
  element(id).replaceChildren(`${value} `, small);
}

function say(text: string): void {
  const status = element('status');
  if (status.textContent !== text) status.textContent = text;
}

function notice(title: string, text: string, action?: { label: string; run: () => void }): void {
  element('notice').hidden = false;
  element('notice-title').textContent = title;
  element('notice-text').textContent = text;
  const act = button('notice-action');
  act.hidden = !action;
  act.textContent = action?.label ?? '';
  act.onclick = () => action?.run();
}

function explain(error: unknown): void {
  // The page's own handler of a lost device says more.
  if (error instanceof DeviceLostError) return;
  notice(
    'That did not work.',
    error instanceof EngineError ? errorSentence(error) : error instanceof Error ? error.message : String(error),
  );
}

/** Runs what a button asks for, shows what goes wrong, and brings the buttons up to date before and after. */
async function act(work: () => Promise<void> | void): Promise<void> {
  element('notice').hidden = true;
  busy = true;
  refresh();
  try {
    await work();
  } catch (error) {
    training = false;
    explain(error);
  } finally {
    busy = false;
    refresh();
  }
}

function refresh(): void {
  const open = device !== null,
    free = open && !busy;
  element<HTMLFieldSetElement>('settings').disabled = session !== null || !open;
  const toggle = button('toggle');
  const idle = session?.done ? 'Finished' : session && session.step > 0 ? 'Resume' : 'Start';
  toggle.textContent = training ? 'Pause' : idle;
  toggle.disabled = training ? false : !free || session?.done === true;
  for (const id of ['draw', 'save', 'restart'])
    button(id).disabled = !free || session === null || (id === 'restart' && training);
  button('load').disabled = !free || training;
}

// ── buttons ──────────────────────────────────────────────────────────────────────────────────────────────────────────

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (training) {
    training = false;
    interrupt.abort();
    say('Pausing after this step.');
    return void inTurn(async () => say(`Paused at step ${grouped(session?.step ?? 0)}.`));
  }
  const warning = session ? undefined : warningOfForm();
  if (warning === undefined) return void start();
  notice('This run may not fit.', warning, { label: 'Start all the same', run: () => void start() });
});

async function start(): Promise<void> {
  await act(async () => {
    say('Compiling the kernels for your GPU. The first step takes a moment.');
    if (!session) await begin({ settings: settingsOfForm() });
    const done = train();
    // Other buttons work while it trains.
    busy = false;
    refresh();
    await done;
  });
}

/** What speaks against the run that the form describes. */
function warningOfForm(): string | undefined {
  const { model: name, batchSize } = settingsOfForm();
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return memoryWarning(modelConfig(name), batchSize, {
    maxBufferSize: device!.limits.maxBufferSize,
    mainMemory: deviceMemory === undefined ? undefined : deviceMemory * 2 ** 30,
    software: device!.adapter.software,
  });
}

button('draw').addEventListener(
  'click',
  () =>
    void act(() =>
      inTurn(async () => {
        const current = session!;
        await drawSamples(current, STEPS.best, ++seed);
        say(training ? 'Training.' : `Paused at step ${grouped(current.step)}.`);
      }),
    ),
);

button('restart').addEventListener(
  'click',
  () =>
    void act(async () => {
      await inTurn(async () => {
        session?.dispose();
        session = snapshot = null;
      });
      await clear();
      say('Ready. Press Start.');
    }),
);

button('save').addEventListener(
  'click',
  () =>
    void act(() =>
      inTurn(async () => {
        const checkpoint = await session!.checkpoint();
        const link = document.createElement('a');
        link.href = URL.createObjectURL(new Blob([writeCheckpoint(checkpoint)], { type: 'application/octet-stream' }));
        link.download = `${checkpoint.settings.model.toLowerCase().replace('/', '-')}-step-${checkpoint.state.json.step}.safetensors`;
        link.click();
        URL.revokeObjectURL(link.href);
      }),
    ),
);

button('load').addEventListener('click', () => input('file').click());

input('file').addEventListener('change', ({ target }) => {
  const chooser = target as HTMLInputElement;
  const [file] = chooser.files ?? [];
  if (!file) return;
  void act(() =>
    inTurn(async () => {
      const checkpoint = readCheckpoint(await file.arrayBuffer());
      chooser.value = '';
      await begin(checkpoint);
      await preview(session!);
      say(`Loaded step ${grouped(session!.step)} from ${file.name}.`);
    }),
  );
});

model.addEventListener('change', showSize);

function showSize(): void {
  for (const option of model.options) {
    const parameters = disParameterCount(modelConfig(option.value as DisName));
    option.title = `${grouped(parameters)} parameters`;
  }
  model.title = model.selectedOptions[0].title;
}

// ── device ───────────────────────────────────────────────────────────────────────────────────────────────────────────

async function open(): Promise<void> {
  const chip = element('adapter');
  try {
    device = await openDevice();
  } catch (error) {
    chip.dataset.state = 'missing';
    chip.textContent = 'no WebGPU';
    say('Training needs WebGPU.');
    if (!(error instanceof AdapterError)) return explain(error);
    notice(
      'WebGPU is not available here.',
      isSecureContext
        ? 'Open this page in a current Chrome, Edge, Safari or Firefox, with graphics acceleration switched on in its settings. On Linux, Chrome may need chrome://flags/#enable-unsafe-webgpu.'
        : 'Browsers offer WebGPU only to pages that come over https or from localhost.',
    );
    return;
  }
  const { vendor, architecture, device: name, description, software } = device.adapter;
  chip.textContent = `${[...new Set([description || name || vendor, architecture])].filter(Boolean).join(' · ') || 'WebGPU'}${software ? ' (on the CPU: slow)' : ''}`;
  chip.dataset.state = software ? 'software' : 'ready';
  void device.lost.then(lost);
}

/** The GPU is gone with all that was on it; what the last preview kept can go on. */
function lost(): void {
  const kept = snapshot;
  device = session = null;
  training = false;
  element('adapter').dataset.state = 'missing';
  element('adapter').textContent = 'GPU lost';
  refresh();
  const step = kept?.state.json.step ?? 0;
  say('Stopped.');
  notice(
    'The GPU was lost.',
    kept ? 'The run as it was at its last preview is kept.' : 'Nothing is kept, for there was no preview yet.',
    {
      label: kept ? `Go on from step ${grouped(step)}` : 'Open it again',
      run: () =>
        void act(async () => {
          await open();
          if (!device || !kept) return;
          await begin(kept);
          await preview(session!);
          say(`Back at step ${grouped(step)}.`);
        }),
    },
  );
}

void act(async () => {
  await sheet.clear();
  showSize();
  await open();
  if (device) say('Ready. Press Start.');
});
