// What a person reads when something goes wrong: one sentence, and an exit status that scripts can tell apart.

import {
  AdapterError,
  DeviceLostError,
  EngineError,
  FormatError,
  GpuError,
  LimitError,
  ValueError,
  errorSentence,
} from '../core/errors.ts';
import { MpiError, RankLostError } from './distributed/mpi.ts';
import { FileError, errorCode } from './files.ts';
import { flagOf } from './flagNames.ts';
import { invocation } from './invocation.ts';

/** Exit statuses of the command line. */
export const EXIT = {
  ok: 0,
  /** Something went wrong that is none of the others. */
  failure: 1,
  /** A flag, value or combination that makes no sense. */
  usage: 2,
  /** A file or folder that is missing, damaged, forbidden or full. */
  file: 3,
  /** No adapter, or one that is lost or too small. */
  gpu: 4,
  /** Of several ranks or workers one is gone or silent. */
  rank: 5,
  /** Ended by Ctrl-C or a signal (128 + SIGINT). */
  interrupted: 130,
} as const;

/** Flags or their combination are wrong. */
export class UsageError extends Error {
  override name = 'UsageError';
}

/** Training cannot go on, for reasons of the numbers. */
export class TrainingError extends Error {
  override name = 'TrainingError';
}

/** The Hub could not be reached, or refused. */
export class HubError extends Error {
  override name = 'HubError';
}

/** Of several processes that divide work, one failed. */
export class WorkerError extends Error {
  override name = 'WorkerError';
}

/** The user ended the command; what was to be said has been said. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

export interface Failure {
  /** One sentence, without the name of the operation that noticed. */
  readonly message: string;
  readonly status: number;
  /** Whether a stack would help: the error is none that this program raises on purpose. */
  readonly unexpected: boolean;
}

const SYSTEM: Record<string, string> = {
  ENOSPC: 'no space is left on the device; free some space and run the command again',
  EDQUOT: 'the disk quota is used up; free some space and run the command again',
  EACCES: 'permission is denied; choose a place that you may read and write',
  EPERM: 'permission is denied; choose a place that you may read and write',
  EROFS: 'the file system is read-only; choose another place',
  ENOENT: 'it does not exist; check the path',
  ENOTDIR: 'a part of the path is not a folder; check the path',
  EISDIR: 'it is a folder, and a file is expected; check the path',
  EFBIG: 'the file would be larger than allowed; raise the limit with `ulimit -f`',
  EMFILE: 'too many files are open; raise the limit with `ulimit -n`',
  EIO: 'the disk reports an error; check it and choose another place',
};

/** The sentence and the exit status of anything that was thrown. */
export function describeFailure(error: unknown): Failure {
  const message = sentence(error);
  if (error instanceof UsageError || error instanceof ValueError)
    return { message, status: EXIT.usage, unexpected: false };
  if (error instanceof RankLostError || error instanceof WorkerError)
    return { message, status: EXIT.rank, unexpected: false };
  if (error instanceof MpiError) return { message, status: EXIT.gpu, unexpected: false };
  if (error instanceof TrainingError || error instanceof HubError)
    return { message, status: EXIT.failure, unexpected: false };
  if (error instanceof FileError || error instanceof FormatError)
    return { message, status: EXIT.file, unexpected: false };
  if (error instanceof DeviceLostError || error instanceof AdapterError || error instanceof LimitError)
    return { message, status: EXIT.gpu, unexpected: false };
  if (error instanceof GpuError) return { message, status: EXIT.gpu, unexpected: !error.outOfMemory };
  if (error instanceof EngineError) return { message, status: EXIT.failure, unexpected: true };
  const code = errorCode(error);
  if (code !== undefined && code in SYSTEM) {
    const path = (error as { path?: unknown }).path;
    return {
      message: `Cannot use ${typeof path === 'string' ? path : 'a file'}: ${SYSTEM[code]}.`,
      status: EXIT.file,
      unexpected: false,
    };
  }
  return { message, status: EXIT.failure, unexpected: true };
}

/** Whether an error says that the disk is full. */
export function isDiskFull(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** What is long and technical is for those who debug. */
const LONGEST = 400;

/** One line with a full stop: of the engine's errors what their fields say, in the words of the command line. */
function sentence(error: unknown): string {
  const text =
    error instanceof EngineError ? engineSentence(error) : error instanceof Error ? error.message : String(error);
  const line = text.replace(/\s*\n\s*/g, ' ').trim() || 'Something went wrong.';
  const short = line.length > LONGEST ? `${line.slice(0, LONGEST)} …` : line;
  return /[.!?)…]$/.test(short) ? short : `${short}.`;
}

/** The sentence without the operation that noticed, with a flag instead of the API's option. */
function engineSentence(error: EngineError): string {
  const { what, expected, remedy } = error;
  if (error.option !== undefined) return errorSentence({ option: flagOf(error.option), what, expected, remedy });
  if (error instanceof FileError) return errorSentence(error); // may begin with a path
  return errorSentence({
    what: /^[a-z]+[\s,:]/.test(what) ? what[0].toUpperCase() + what.slice(1) : what,
    expected,
    remedy:
      error instanceof GpuError && error.outOfMemory
        ? 'lower --batch, or split it with --micro-batches'
        : remedy?.replaceAll('`npx dis-cli ', `\`${invocation()} `),
  });
}
