// Images a second, from when steps come to their end. Records may arrive several at once, since their losses are read back together: the
// speed is that of the last few steps, over the time they took.

/** Steps that the speed is of. */
const WINDOW = 4;
/** No clock of a browser is finer, in milliseconds. */
const TICK = 0.1;

export class Speed {
  private readonly images: number;
  /** When the first of these steps began, and when each ended. */
  private times: number[] = [];

  /** @param images in a step */
  constructor(images: number) {
    this.images = images;
  }

  /** Images a second, with a step that began and ended at these milliseconds. */
  ended(began: number, ended: number): number {
    const last = this.times.at(-1);
    // What began after the step before had ended has waited for something else.
    if (last === undefined || began >= last) this.times = [began];
    this.times.push(ended);
    if (this.times.length > WINDOW + 1) this.times.shift();
    const steps = this.times.length - 1;
    return (1000 * steps * this.images) / Math.max(ended - this.times[0], TICK);
  }
}
