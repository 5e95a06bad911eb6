// Counts the handles on a device's memory (tensors), and gives back what the garbage collector finds: a handle that
// nobody holds and nobody disposed of.

/** What a handle holds on to. It must not refer to the handle. */
export interface Holdings {
  /** Names the handle. */
  describe(): string;
  /** Gives the memory back. */
  release(): void;
}

/** What is remembered of a handle. */
interface Birth {
  readonly holdings: Holdings;
  readonly stack: string | undefined;
}

export class Handles {
  /** Handles that are not disposed of. */
  live = 0;
  /** Handles that were collected undisposed. */
  leaked = 0;
  /** Remember where each handle is made, for `report()`. Slows the host down. */
  trace = false;
  private abandoned = false;
  private readonly lostByText = new Map<string, number>();
  private readonly registry = new FinalizationRegistry<Birth>((birth) => this.collected(birth));

  /** A handle was made. */
  opened(handle: object, holdings: Holdings): void {
    this.live++;
    this.registry.register(handle, { holdings, stack: this.trace ? new Error().stack : undefined }, handle);
  }

  /** A handle was disposed of. */
  closed(handle: object): void {
    this.live--;
    this.registry.unregister(handle);
  }

  /**
   * Which handles were lost, the most frequent first. The collector runs when it likes, so that the report may be late.
   */
  report(): string {
    if (!this.leaked) return 'No tensor was collected without dispose().';
    const lines = [...this.lostByText].sort((a, b) => b[1] - a[1]).map(([text, count]) => `  ${count} × ${text}`);
    const hint = this.trace ? '' : '\nSet device.traceTensors to see where they are made.';
    const head = `${this.leaked} tensors were collected without dispose(); their memory came back late, scope() gives it back at once:`;
    return `${head}\n${lines.join('\n')}${hint}`;
  }

  /** The device is gone with all its memory: nothing more is lost. */
  abandon(): void {
    this.abandoned = true;
  }

  private collected({ holdings, stack }: Birth): void {
    if (this.abandoned) return;
    if (this.leaked++ === 0)
      console.warn(
        '[dis-webgpu] Tensors were left to the garbage collector, which frees their memory late. Compute inside of scope(() => …), ' +
          'which frees it at once; device.leakReport() lists them.',
      );
    this.live--;
    const text = `${holdings.describe()}${stack === undefined ? '' : `, made at ${madeAt(stack)}`}`;
    this.lostByText.set(text, (this.lostByText.get(text) ?? 0) + 1);
    holdings.release();
  }
}

/** The first place in a stack that is not in the engine itself; the last if all are. */
function madeAt(stack: string): string {
  const frames = stack
    .split('\n')
    .slice(1)
    .map((line) => line.trim().replace(/^at /, ''));
  return frames.find((frame) => !/[/\\]core[/\\](?!.*\.test\.)/.test(frame)) ?? frames.at(-1) ?? 'an unknown place';
}
