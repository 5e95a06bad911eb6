// Counts the handles on a device's memory (tensors), and notices those that the garbage collector takes before anybody disposed of
// them.

/** What is remembered of a handle that may be lost. */
interface Birth {
  /** Names it, without holding on to it. */
  readonly what: () => string;
  readonly stack: string | undefined;
}

export class Handles {
  /** Handles that are not disposed of. */
  live = 0;
  /** Handles that were collected undisposed. */
  leaked = 0;
  /** Remember where each handle is made, for `report()`. Slows the host down. */
  trace = false;
  private readonly lostByText = new Map<string, number>();
  private readonly registry = new FinalizationRegistry<Birth>(({ what, stack }) => {
    this.leaked++;
    const text = `${what()}${stack === undefined ? '' : `, made at ${madeAt(stack)}`}`;
    this.lostByText.set(text, (this.lostByText.get(text) ?? 0) + 1);
  });

  /** A handle was made; `what` must not refer to it. */
  opened(handle: object, what: () => string): void {
    this.live++;
    this.registry.register(handle, { what, stack: this.trace ? new Error().stack : undefined }, handle);
  }

  /** A handle was disposed of. */
  closed(handle: object): void {
    this.live--;
    this.registry.unregister(handle);
  }

  /** Which handles were lost, the most frequent first. The collector runs when it likes, so that the report may be late. */
  report(): string {
    if (!this.leaked) return 'No tensor was collected without dispose().';
    const lines = [...this.lostByText].sort((a, b) => b[1] - a[1]).map(([text, count]) => `  ${count} × ${text}`);
    const hint = this.trace ? '' : '\nSet device.traceTensors to see where they are made.';
    return `${this.leaked} tensors were collected without dispose(); their memory is lost until the device is destroyed:\n${lines.join('\n')}${hint}`;
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
