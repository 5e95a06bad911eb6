// Ends what waits for a device that is lost. `Promise.race([work, device.lost])` would do so too, but a promise keeps
// all that ever waited for it: in a long run, a little more with each step.

export class Loss {
  private over = false;
  private readonly waiting = new Set<() => void>();

  /** @param lost resolves when the device is lost */
  constructor(lost: Promise<unknown>) {
    void lost.then(() => {
      this.over = true;
      for (const end of this.waiting) end();
      this.waiting.clear();
    });
  }

  /**
   * Resolves when `work` is done or the device is lost.
   *
   * @throws what `work` throws
   */
  async orLost(work: Promise<unknown>): Promise<void> {
    if (this.over) {
      work.catch(() => {}); // nobody waits for it
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const end = (): void => {
        this.waiting.delete(end);
        resolve();
      };
      this.waiting.add(end);
      work.then(end, (error: Error) => {
        this.waiting.delete(end);
        reject(error);
      });
    });
  }
}
