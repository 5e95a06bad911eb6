// Progress on stderr: one line that is written over, where stderr is a terminal, and lines one after the other elsewhere.

export class Terminal {
  private readonly stream = process.stderr;
  private pending = false;

  /** What is being done now. */
  progress(text: string): void {
    if (!this.stream.isTTY) return;
    this.clear();
    this.stream.write(text.slice(0, (this.stream.columns || 80) - 1));
    this.pending = true;
  }

  /** A line that stays. */
  note(text: string): void {
    this.clear();
    this.stream.write(`${text}\n`);
  }

  done(): void {
    this.clear();
  }

  private clear(): void {
    if (this.pending) this.stream.write('\r\u001b[2K');
    this.pending = false;
  }
}
