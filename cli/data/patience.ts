// Reading from disks and drives that fail for a moment: tried again with pauses, so that a network that is away for a
// second neither ends a run nor changes what it sees.
import { setTimeout as sleep } from 'node:timers/promises';
import { FileError, errorCode } from '../files.ts';

export interface PatienceOptions {
  /** Milliseconds before each further attempt. Default 0.25, 0.75, 2 and 5 seconds. */
  pauses?: readonly number[];
  /** Called when an attempt failed and another one follows; once until something is read again. */
  onRetry?: (path: string, why: string) => void;
  /** Ends the waiting with its reason. */
  signal?: AbortSignal;
}

const PAUSES = [250, 750, 2000, 5000];

/** What the system says of a file that cannot be read. */
const REASONS: Record<string, string> = {
  ENOENT: 'it is not there',
  ENOTDIR: 'its folder is not there',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  EIO: 'the disk reports an error',
  ESTALE: 'the network drive is gone',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
};

/** A file holds other bytes than it did when it was first read. */
export class ChangedError extends Error {
  override name = 'ChangedError';
}

/** Runs what reads files of one place; see `read`. */
export class Patience {
  private readonly options: PatienceOptions;
  private told = false;
  /** After one reading was given up, others that wait beside it are not kept waiting as long again. */
  private hopeless = false;

  constructor(options: PatienceOptions = {}) {
    this.options = options;
  }

  /**
   * Runs `attempt` until it succeeds; errors that are not the system's go through at once.
   * @throws FileError when the last attempt failed as well; the signal's reason
   */
  async read<T>(path: string, attempt: () => Promise<T>): Promise<T> {
    const { pauses = PAUSES, onRetry, signal } = this.options;
    for (let tries = 0; ; tries++) {
      signal?.throwIfAborted();
      try {
        const result = await attempt();
        this.told = this.hopeless = false;
        return result;
      } catch (error) {
        const code = errorCode(error);
        if (code === undefined && !(error instanceof ChangedError)) throw error;
        const why = code === undefined ? 'its content is not what it was when the run began' : reason(code);
        if (tries >= pauses.length || this.hopeless) {
          this.hopeless = true;
          throw new FileError('data', `Cannot read ${path}: ${why}`, {
            path,
            remedy: 'bring it back as it was',
            cause: error,
          });
        }
        if (!this.told) onRetry?.(path, why);
        this.told = true;
        await sleep(pauses[tries], undefined, { signal }).catch(() => undefined);
      }
    }
  }
}

const reason = (code: string): string => REASONS[code] ?? `the system reports ${code}`;
