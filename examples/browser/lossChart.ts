// The loss over the steps, on a canvas: every step's in a faint line, their moving average in a strong one, on a logarithmic scale.

interface Point {
  readonly step: number;
  readonly loss: number;
  readonly mean: number;
}

/** The average spans a fifth of the steps so far, at most this many. */
const SPAN = 50;
const MARGIN = { left: 46, right: 12, top: 10, bottom: 24 };

export class LossChart {
  private readonly canvas: HTMLCanvasElement;
  private points: Point[] = [];
  private pointer: number | null = null;
  private frame = 0;

  constructor(canvas: HTMLCanvasElement) {
    this.canvas = canvas;
    new ResizeObserver(() => this.schedule()).observe(canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.schedule());
    canvas.addEventListener('pointermove', ({ offsetX }) => this.point(offsetX));
    canvas.addEventListener('pointerleave', () => this.point(null));
  }

  /** The average of the last losses. */
  get mean(): number {
    return this.points.at(-1)?.mean ?? NaN;
  }

  add(step: number, loss: number): void {
    // A step that overflowed has no place on the scale.
    if (!(loss > 0 && Number.isFinite(loss))) return;
    const share = 1 / Math.min(SPAN, 1 + this.points.length / 5);
    this.points.push({ step, loss, mean: this.points.length ? this.mean + share * (loss - this.mean) : loss });
    this.schedule();
  }

  clear(): void {
    this.points = [];
    this.schedule();
  }

  private point(x: number | null): void {
    this.pointer = x;
    this.schedule();
  }

  private schedule(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private draw(): void {
    const { canvas, points } = this;
    const { clientWidth: width, clientHeight: height } = canvas;
    const context = canvas.getContext('2d')!;
    const ratio = devicePixelRatio;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = resolver(canvas);
    context.font = `11px ${style.fontFamily}`;
    const right = width - MARGIN.right,
      bottom = height - MARGIN.bottom;

    const first = points[0]?.step ?? 1,
      last = Math.max(points.at(-1)?.step ?? 1, first + 19);
    let low = Infinity,
      high = -Infinity;
    for (const { loss } of points) [low, high] = [Math.min(low, loss), Math.max(high, loss)];
    if (!points.length) [low, high] = [0.01, 1];
    // Wide enough for two ticks at least.
    const room = Math.max(0.06, (0.8 - Math.log10(high / low)) / 2);
    [low, high] = [Math.log10(low) - room, Math.log10(high) + room];
    const xOf = (step: number): number => MARGIN.left + ((step - first) / (last - first)) * (right - MARGIN.left);
    const yOf = (loss: number): number => bottom - ((Math.log10(loss) - low) / (high - low)) * (bottom - MARGIN.top);

    context.fillStyle = colour('--muted');
    context.strokeStyle = colour('--line');
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const value of logTicks(low, high)) {
      const y = Math.round(yOf(value)) + 0.5;
      line(context, [
        [MARGIN.left, y],
        [right, y],
      ]);
      context.fillText(String(value), MARGIN.left - 8, y);
    }
    context.textAlign = 'center';
    context.textBaseline = 'alphabetic';
    for (const step of linearTicks(first, last, (right - MARGIN.left) / 70))
      context.fillText(step.toLocaleString('en'), xOf(step), height - 6);
    if (!points.length) return;

    context.lineJoin = 'round';
    context.strokeStyle = colour('--faint');
    context.lineWidth = 1;
    line(
      context,
      columns(points, (p) => p.loss, xOf).map(([x, v]) => [x, yOf(v)]),
    );
    context.strokeStyle = colour('--accent');
    context.lineWidth = 2;
    line(
      context,
      columns(points, (p) => p.mean, xOf).map(([x, v]) => [x, yOf(v)]),
    );
    if (this.pointer !== null) this.drawPointer(context, this.pointer, { xOf, yOf, right, bottom, colour });
  }

  /** The numbers of the step under the pointer. */
  private drawPointer(
    context: CanvasRenderingContext2D,
    pointer: number,
    { xOf, yOf, right, bottom, colour }: Frame,
  ): void {
    const nearest = this.points.reduce((a, b) =>
      Math.abs(xOf(b.step) - pointer) < Math.abs(xOf(a.step) - pointer) ? b : a,
    );
    const x = xOf(nearest.step),
      y = yOf(nearest.mean);
    context.strokeStyle = colour('--muted');
    context.lineWidth = 1;
    line(context, [
      [x, MARGIN.top],
      [x, bottom],
    ]);
    context.fillStyle = colour('--accent');
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fill();
    const label = `step ${nearest.step.toLocaleString('en')}: ${nearest.mean.toPrecision(3)}`;
    const half = context.measureText(label).width / 2 + 6;
    const middle = Math.min(Math.max(x, MARGIN.left + half), right - half);
    context.fillStyle = colour('--card');
    context.fillRect(middle - half, MARGIN.top - 8, 2 * half, 18);
    context.fillStyle = colour('--text');
    context.textAlign = 'center';
    context.fillText(label, middle, MARGIN.top + 5);
  }
}

/** Colours as a canvas takes them: it doesn't know the `light-dark()` of the style sheet's variables, but `color` resolves it. */
function resolver(canvas: HTMLCanvasElement): (name: string) => string {
  const known = new Map<string, string>();
  return (name) => {
    let colour = known.get(name);
    if (colour === undefined) {
      const before = canvas.style.color;
      canvas.style.color = `var(${name})`;
      known.set(name, (colour = getComputedStyle(canvas).color));
      canvas.style.color = before;
    }
    return colour;
  };
}

interface Frame {
  readonly xOf: (step: number) => number;
  readonly yOf: (loss: number) => number;
  readonly right: number;
  readonly bottom: number;
  readonly colour: (name: string) => string;
}

function line(context: CanvasRenderingContext2D, points: readonly (readonly number[])[]): void {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}

/** At most two points a pixel column, its smallest and its largest value, so that a long run draws as fast as a short one. */
function columns(
  points: readonly Point[],
  valueOf: (point: Point) => number,
  xOf: (step: number) => number,
): [x: number, value: number][] {
  const result: [number, number][] = [];
  let column = NaN,
    low = 0,
    high = 0;
  const close = (): void => {
    if (!Number.isNaN(column)) result.push([column, low], ...(high > low ? [[column, high] as [number, number]] : []));
  };
  for (const point of points) {
    const x = Math.round(xOf(point.step) * 2) / 2,
      value = valueOf(point);
    if (x === column) {
      [low, high] = [Math.min(low, value), Math.max(high, value)];
    } else {
      close();
      [column, low, high] = [x, value, value];
    }
  }
  close();
  return result;
}

/** 1, 2 and 5 times powers of ten between two powers; the powers alone where that is too many. */
function logTicks(low: number, high: number): number[] {
  const mantissas = high - low > 2 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const m of mantissas) {
      const value = Number(`${m}e${power}`);
      if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push(value);
    }
  }
  return ticks;
}

/** About `count` round numbers between two. */
function linearTicks(from: number, to: number, count: number): number[] {
  const rough = (to - from) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(
    1,
    [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough)!,
  );
  const ticks: number[] = [];
  for (let value = Math.ceil(from / step) * step; value <= to; value += step) ticks.push(value);
  return ticks;
}
