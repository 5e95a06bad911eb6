// A worker process that answers requests one at a time: JSON, a line each, marked so that what libraries print does no harm. Two builds,
// or two engines, are compared by asking their workers in turn.

import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

const MARK = '@bench ';

/** Answers requests on standard input until it ends. */
export async function serve(answer: (request: never) => Promise<unknown>): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) {
    let reply: { value: unknown } | { error: string };
    try {
      reply = { value: await answer(JSON.parse(line) as never) };
    } catch (error) {
      reply = { error: error instanceof Error ? error.message : String(error) };
    }
    process.stdout.write(`${MARK}${JSON.stringify(reply)}\n`);
  }
}

/** The other end of `serve`. */
export class Worker {
  readonly name: string;
  private readonly child: ChildProcess;
  private readonly waiting: { resolve(value: unknown): void; reject(error: Error): void }[] = [];
  private errors = '';

  constructor(
    name: string,
    command: string,
    args: readonly string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
  ) {
    this.name = name;
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      if (!line.startsWith(MARK)) return;
      const reply = JSON.parse(line.slice(MARK.length)) as { value?: unknown; error?: string };
      const { resolve, reject } = this.waiting.shift()!;
      if (reply.error === undefined) resolve(reply.value);
      else reject(new Error(reply.error));
    });
    this.child.stderr!.on('data', (data: Buffer) => {
      this.errors = (this.errors + data.toString()).slice(-2000);
    });
    this.child.stdin!.on('error', () => {
      /* the end of the process tells more */
    });
    const end = (what: string): void => {
      for (const { reject } of this.waiting.splice(0))
        reject(new Error(`[${name}] ${what} ${this.errors.trim()}`.trim()));
    };
    this.child.on('error', (error) => end(`The process did not start: ${error.message}.`));
    this.child.on('exit', (code, signal) => end(`The process ended (${signal ?? code}).`));
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** @throws what the worker's answer threw, or how its process ended */
  request<R>(message: unknown): Promise<R> {
    if (!this.alive) return Promise.reject(new Error(`[${this.name}] The process has ended. ${this.errors.trim()}`));
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve: resolve as (value: unknown) => void, reject });
      this.child.stdin!.write(`${JSON.stringify(message)}\n`);
    });
  }

  /** Lets the process end; ends it where it doesn't. */
  async close(): Promise<void> {
    if (!this.alive) return;
    const ended = new Promise<void>((resolve) => {
      this.child.once('exit', () => resolve());
    });
    this.child.stdin!.end();
    const timer = setTimeout(() => this.child.kill(), 3000);
    await ended;
    clearTimeout(timer);
  }
}
