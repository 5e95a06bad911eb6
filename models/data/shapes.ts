// A class-labelled data set that needs no download: one coloured shape on a dark background, antialiased from signed
// distances, at any size. Only + - * / and sqrt are used, which IEEE 754 rounds in one way, so that an item has the
// same pixels on every machine.
import { ValueError } from '../../core/errors.ts';
import type { Dataset, DatasetItem } from './dataset.ts';
import { HashStream } from './hash.ts';

/** Class names; the position is the label. */
export const SHAPE_CLASSES = [
  'circle',
  'square',
  'triangle',
  'star',
  'cross',
  'ring',
  'heart',
  'crescent',
  'diamond',
  'arrow',
] as const;

/** One of the ten shapes. */
export type ShapeClass = (typeof SHAPE_CLASSES)[number];

/**
 * Signed distance to the outline, negative inside. The shapes fill about the square [-1, 1] x [-1, 1]; y points down.
 */
type Distance = (x: number, y: number) => number;

const length = (x: number, y: number): number => Math.sqrt(x * x + y * y);

/** Exact distance to a closed polygon given as x0, y0, x1, y1, …; inside by the even-odd rule. */
function polygon(...points: readonly number[]): Distance {
  const n = points.length;
  return (x, y) => {
    let nearest = Infinity;
    let inside = false;
    for (let i = 0, j = n - 2; i < n; j = i, i += 2) {
      const ex = points[j] - points[i];
      const ey = points[j + 1] - points[i + 1];
      const px = x - points[i];
      const py = y - points[i + 1];
      let t = (px * ex + py * ey) / (ex * ex + ey * ey);
      t = t < 0 ? 0 : t > 1 ? 1 : t;
      const dx = px - ex * t;
      const dy = py - ey * t;
      nearest = Math.min(nearest, dx * dx + dy * dy);
      if (points[i + 1] > y !== points[j + 1] > y && px < (ex * py) / ey) inside = !inside;
    }
    return inside ? -Math.sqrt(nearest) : Math.sqrt(nearest);
  };
}

/** Five-pointed star, a point upwards: ten corners alternating between the radii 1 and `inner`. */
function star(inner: number, scale: number, down: number): Distance {
  // Sine and cosine of 36 and 72 degrees in square roots.
  const root5 = Math.sqrt(5);
  const [c36, c72] = [(root5 + 1) / 4, (root5 - 1) / 4];
  const [s36, s72] = [Math.sqrt(10 - 2 * root5) / 4, Math.sqrt(10 + 2 * root5) / 4];
  const right = [
    [0, -1, 1],
    [s36, -c36, inner],
    [s72, -c72, 1],
    [s72, c72, inner],
    [s36, c36, 1],
  ].map(([x, y, r]) => [x * r * scale, y * r * scale + down]);
  const left = right
    .slice(1)
    .reverse()
    .map(([x, y]) => [-x, y]);
  return polygon(...right.flat(), 0, inner * scale + down, ...left.flat());
}

const arm = 0.3;
const heartBody = polygon(0, 0.9, 0.8025, 0.0035, 0, -0.45, -0.8025, 0.0035);

const distances: Record<ShapeClass, Distance> = {
  circle: (x, y) => length(x, y) - 0.85,
  square: polygon(-0.78, -0.78, 0.78, -0.78, 0.78, 0.78, -0.78, 0.78),
  triangle: polygon(0, -0.95, 0.98, 0.75, -0.98, 0.75),
  star: star(0.42, 1.1, 0.08),
  cross: polygon(
    -arm,
    -0.95,
    arm,
    -0.95,
    arm,
    -arm,
    0.95,
    -arm,
    0.95,
    arm,
    arm,
    arm,
    arm,
    0.95,
    -arm,
    0.95,
    -arm,
    arm,
    -0.95,
    arm,
    -0.95,
    -arm,
    -arm,
    -arm,
  ),
  ring: (x, y) => Math.abs(length(x, y) - 0.7) - 0.22,
  // Two discs, and below them the quadrilateral whose lower sides touch the discs.
  heart: (x, y) => Math.min(length(Math.abs(x) - 0.43, y + 0.33) - 0.5, heartBody(x, y)),
  crescent: (x, y) => Math.max(length(x + 0.1, y) - 0.9, 0.72 - length(x - 0.4, y)),
  diamond: polygon(0, -1.02, 0.6, 0, 0, 1.02, -0.6, 0),
  arrow: polygon(1, 0, 0.1, -0.88, 0.1, -0.32, -0.95, -0.32, -0.95, 0.32, 0.1, 0.32, 0.1, 0.88),
};

/** How shapes are drawn. */
export interface ShapeStyle {
  /** Image side in pixels, at least 8. */
  size: number;
  /** Any integer; another seed is another data set of the same kind, for instance for validation. Default 0. */
  seed?: number;
  /**
   * 0: every shape of a class in the same place and of the same size; 1: the widest range that keeps the classes apart.
   * Default 0.4.
   */
  variation?: number;
}

/** Red, green and blue in 0..255 from hue, saturation and value in [0, 1]. */
function hsvToRgb(hue: number, saturation: number, value: number): [number, number, number] {
  const channel = (offset: number): number => {
    const k = (offset + hue * 6) % 6;
    return 255 * (value - value * saturation * Math.max(0, Math.min(k, 4 - k, 1)));
  };
  return [channel(5), channel(3), channel(1)];
}

function checkStyle(size: number, variation: number): void {
  if (!Number.isSafeInteger(size) || size < 8) {
    throw new ValueError('shapes', `is ${size}`, {
      option: 'size',
      expected: 'an integer of at least 8, since smaller shapes cannot be told apart',
    });
  }
  if (!(variation >= 0 && variation <= 1)) {
    throw new ValueError('shapes', `is ${variation}`, {
      option: 'variation',
      expected: 'a number in [0, 1]',
      remedy: 'pass 0 to keep every shape in place',
    });
  }
}

/**
 * Item `index` of the shapes data set: one shape of class `index % 10` in a saturated colour near the centre of a plain
 * dark background. Colour, position, size and rotation are functions of (seed, index) alone; so are the pixels, on
 * every machine.
 * @returns pixels (size, size, 3), channels last, and the label, an index into SHAPE_CLASSES
 * @throws ValueError when the size is less than 8, the variation is not in [0, 1] or the index is not a natural number
 */
export function shapesItem(index: number, { size, seed = 0, variation = 0.4 }: ShapeStyle): DatasetItem<Uint8Array> {
  checkStyle(size, variation);
  if (!Number.isSafeInteger(index) || index < 0) {
    throw new ValueError('shapes', `is ${index}`, {
      option: 'index',
      expected: 'an integer of at least 0',
      remedy: 'count items from 0',
    });
  }
  const label = index % SHAPE_CLASSES.length;
  const distance = distances[SHAPE_CLASSES[label]];
  const random = new HashStream(seed, index);

  const [r, g, b] = hsvToRgb(random.uniform(), random.uniform(0.75, 1), random.uniform(0.9, 1));
  const [r0, g0, b0] = hsvToRgb(
    random.uniform(),
    random.uniform(0, 0.5 * variation),
    random.uniform(0.1 - 0.05 * variation, 0.1 + 0.2 * variation),
  );
  const radius = (size / 2) * (0.76 + variation * random.uniform(-0.34, 0.06));
  const room = Math.max(0, size / 2 - radius) * variation;
  const centerX = size / 2 + room * random.uniform(-1, 1);
  const centerY = size / 2 + room * random.uniform(-1, 1);
  // The rotation by 2 atan(t): at most 18 degrees either way, so that a square stays one and an arrow points right.
  const t = variation * random.uniform(-0.16, 0.16);
  const cos = (1 - t * t) / (1 + t * t);
  const sin = (2 * t) / (1 + t * t);

  const pixels = new Uint8Array(size * size * 3);
  const inverse = 1 / radius;
  for (let y = 0, p = 0; y < size; y++) {
    const dy = (y + 0.5 - centerY) * inverse;
    for (let x = 0; x < size; x++, p += 3) {
      const dx = (x + 0.5 - centerX) * inverse;
      // No shape reaches beyond this circle: far pixels need no distance.
      const far = dx * dx + dy * dy > 2;
      const d = far ? 1 : distance(dx * cos + dy * sin, dy * cos - dx * sin) * radius;
      const cover = d >= 0.5 ? 0 : d <= -0.5 ? 1 : 0.5 - d;
      pixels[p] = r0 + (r - r0) * cover + 0.5;
      pixels[p + 1] = g0 + (g - g0) * cover + 0.5;
      pixels[p + 2] = b0 + (b - b0) * cover + 0.5;
    }
  }
  return { pixels, label };
}

/** Options of `shapesDataset`. */
export interface ShapesOptions extends ShapeStyle {
  /** Number of items in an epoch. Default 50,000. */
  length?: number;
}

/** The shapes as a data set: ten classes, equally frequent, drawn when asked for. */
export function shapesDataset({ length: items = 50_000, size, seed = 0, variation = 0.4 }: ShapesOptions): Dataset {
  checkStyle(size, variation);
  if (!Number.isSafeInteger(items) || items < 1) {
    throw new ValueError('shapes', `is ${items}`, {
      option: 'length',
      expected: 'a positive integer',
      remedy: 'give the number of items in an epoch',
    });
  }
  return {
    length: items,
    size,
    channels: 3,
    numClasses: SHAPE_CLASSES.length,
    classNames: SHAPE_CLASSES,
    item(index) {
      if (index >= items)
        throw new ValueError('shapes', `is ${index}`, {
          option: 'index',
          expected: `less than the length ${items}`,
          remedy: 'count items from 0',
        });
      return shapesItem(index, { size, seed, variation });
    },
  };
}
