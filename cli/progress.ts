// How a long command shows that it moves: a bar on a terminal, lines for people or for programs elsewhere, or nothing.

import { duration, grouped, significant, small } from './format.ts';
import { outputsMeet, printable, printableJson } from './printable.ts';

/**
 * `bar`: one line that is rewritten; `lines`: a line for people now and then; `json`: the same for programs; `none`.
 */
export type ProgressStyle = 'bar' | 'lines' | 'json' | 'none';

/** Where text goes: process.stdout or process.stderr, or a test's own. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface ProgressOptions {
  /** What the steps are called. Default `step`. */
  noun?: string;
  /** Last step. */
  total: number;
  /** Step from which this process goes on. Default 0. */
  start?: number;
  style: ProgressStyle;
  /** Takes the bar and notes for people; default stderr. */
  terminal?: Terminal;
  /** Takes JSON lines; default stdout. */
  output?: Terminal;
  /** Seconds between two lines. Default 10. */
  every?: number;
  /** Milliseconds; for tests. */
  now?: () => number;
}

/** What is known after a step. All but the step may be missing. */
export interface ProgressRecord {
  readonly step: number;
  readonly loss?: number;
  readonly imagesPerSecond?: number;
  /** Of a step of several ranks. */
  readonly exchange?: { readonly exposed: number };
}

const REDRAW_MS = 100;
const ERASE = '\r\x1b[K';

/** Whether sentences to people are JSON, too: for programs that read both streams as one. */
let sentencesAsJson = false;

/** Where stdout and stderr are one pipe, sentences beside JSON are JSON too: `{"message":"…"}`. */
export function separateFromJson(style: ProgressStyle): void {
  sentencesAsJson = style === 'json' && outputsMeet();
}

const sentence = (text: string): string => (sentencesAsJson ? printableJson({ message: text }) : printable(text));

/** Says a sentence to people, in place of a bar that may stand there and comes back with its next step. */
export function say(text: string, terminal: Terminal = process.stderr): void {
  terminal.write(`${terminal.isTTY === true ? ERASE : ''}${sentence(text)}\n`);
}

/** The style that fits where the output goes. */
export function defaultStyle(
  lines: 'lines' | 'json',
  terminal: Terminal = process.stderr,
  output: Terminal = process.stdout,
): ProgressStyle {
  return terminal.isTTY === true && output.isTTY === true && process.env.TERM !== 'dumb' ? 'bar' : lines;
}

/**
 * Progress of one loop. Losses are shown smoothed over about the last fifty steps, the pace over about the last twenty.
 */
export class Progress {
  private readonly style: ProgressStyle;
  private readonly terminal: Terminal;
  private readonly output: Terminal;
  private readonly noun: string;
  private readonly total: number;
  private readonly every: number;
  private readonly now: () => number;
  private step: number;
  private loss = { sum: 0, weight: 0 };
  /** Share of a step in which it waits for other ranks' gradients. */
  private waiting: number | undefined;
  private secondsPerImage: number | undefined;
  private pace: number | undefined;
  private changed: number;
  private drawn = -Infinity;
  private lined: number;
  private visible = false;

  constructor({
    noun = 'step',
    total,
    start = 0,
    style,
    terminal = process.stderr,
    output = process.stdout,
    every = 10,
    now = () => performance.now(),
  }: ProgressOptions) {
    this.noun = noun;
    this.total = total;
    this.step = start;
    this.style = style;
    this.terminal = terminal;
    this.output = output;
    this.every = every * 1000;
    this.now = now;
    this.changed = this.lined = now();
    this.draw();
  }

  update(record: ProgressRecord): void {
    const now = this.now();
    const steps = record.step - this.step;
    if (steps > 0) {
      const pace = (now - this.changed) / steps;
      // The first step compiles; what it took says nothing of the rest.
      if (this.pace === undefined) this.pace = this.loss.weight === 0 && record.loss !== undefined ? undefined : pace;
      else this.pace += (pace - this.pace) * (1 - 0.95 ** steps);
      this.changed = now;
    }
    this.step = record.step;
    if (record.loss !== undefined && Number.isFinite(record.loss)) {
      this.loss.sum += (record.loss - this.loss.sum) * 0.02;
      this.loss.weight += (1 - this.loss.weight) * 0.02;
    }
    if (record.exchange && this.pace) {
      const share = Math.min(1, (1000 * record.exchange.exposed) / this.pace);
      this.waiting = (this.waiting ?? share) + (share - (this.waiting ?? share)) * 0.05;
    }
    const seconds = 1 / (record.imagesPerSecond ?? NaN);
    if (this.pace === undefined || this.secondsPerImage === undefined)
      this.secondsPerImage = Number.isFinite(seconds) ? seconds : undefined;
    else if (Number.isFinite(seconds)) this.secondsPerImage += (seconds - this.secondsPerImage) * 0.1;
    if (this.style === 'bar' && (now - this.drawn >= REDRAW_MS || record.step >= this.total)) this.draw();
    if (
      (this.style === 'lines' || this.style === 'json') &&
      (now - this.lined >= this.every || record.step >= this.total)
    ) {
      this.lined = now;
      if (this.style === 'json') this.output.write(`${JSON.stringify(this.summary())}\n`);
      else this.terminal.write(`${this.fields().join('  ')}\n`);
    }
  }

  /** A sentence for people, above the bar. Quiet runs say it too: it is about something that went wrong. */
  warn(text: string): void {
    this.print(text);
  }

  /** A sentence for people that a program or a quiet run can do without. */
  note(text: string): void {
    if (this.style === 'bar' || this.style === 'lines') this.print(text);
  }

  /** Leaves the bar as it is and goes on below it. */
  end(): void {
    if (this.style !== 'bar' || !this.visible) return;
    this.draw();
    this.terminal.write('\n');
    this.visible = false;
  }

  private print(text: string): void {
    if (this.visible) this.terminal.write(ERASE);
    this.terminal.write(`${sentence(text)}\n`);
    if (this.visible) this.draw();
  }

  private get smoothLoss(): number | undefined {
    return this.loss.weight > 0 ? this.loss.sum / this.loss.weight : undefined;
  }

  private get imagesPerSecond(): number | undefined {
    return this.secondsPerImage === undefined ? undefined : 1 / this.secondsPerImage;
  }

  private get secondsLeft(): number | undefined {
    return this.pace === undefined ? undefined : (Math.max(0, this.total - this.step) * this.pace) / 1000;
  }

  private summary(): Record<string, number | undefined> {
    const secondsLeft = this.secondsLeft;
    return {
      [this.noun]: this.step,
      total: this.total,
      loss: this.smoothLoss,
      imagesPerSecond: this.imagesPerSecond,
      exchangeShare: this.waiting,
      secondsLeft: secondsLeft === undefined ? undefined : Math.round(secondsLeft),
    };
  }

  /** `step 120/1,000`, `loss 0.0512`, `348 images/s`, `3:12 left`, as far as they are known. */
  private fields(): string[] {
    const total = grouped(this.total);
    const fields = [`${this.noun} ${grouped(this.step).padStart(total.length)}/${total}`];
    const loss = this.smoothLoss,
      speed = this.imagesPerSecond,
      seconds = this.secondsLeft;
    if (loss !== undefined) fields.push(`loss ${small(loss)}`);
    if (speed !== undefined) fields.push(`${significant(speed)} images/s`);
    if (this.waiting !== undefined) fields.push(`${Math.round(100 * this.waiting)} % in exchange`);
    if (seconds !== undefined && this.step < this.total) fields.push(`${duration(seconds)} left`);
    return fields;
  }

  private draw(): void {
    if (this.style !== 'bar') return;
    this.drawn = this.now();
    this.visible = true;
    const [count, ...rest] = this.fields();
    const done = this.total > 0 ? Math.min(1, this.step / this.total) : 1;
    const percent = `${Math.floor(done * 100)} %`.padStart(5);
    const columns = (this.terminal.columns ?? 80) - 1;
    const width = Math.max(0, Math.min(30, columns - [count, percent, ...rest].join('  ').length - 3));
    const parts = [count, ...(width >= 5 ? [bar(done, width)] : []), percent, ...rest];
    this.terminal.write(`${ERASE}${parts.join('  ').slice(0, columns)}`);
  }
}

/** A bar of `width` characters, to an eighth of a character. */
function bar(done: number, width: number): string {
  const eighths = Math.round(done * width * 8);
  const full = '█'.repeat(Math.floor(eighths / 8));
  const part = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'][eighths % 8];
  return (full + part).padEnd(width, '░');
}
