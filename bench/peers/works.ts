// The work that all engines do: what goes in, and in which order results come out. Inputs are made from a seed in each process.

/** An input: uniform in [low, high). */
export interface Input {
  readonly shape: readonly number[];
  readonly low: number;
  readonly high: number;
}

export type Kind =
  | 'matmul'
  | 'softmax'
  | 'gate'
  | 'gateGrad'
  | 'conv'
  | 'convGrad'
  | 'layerNorm'
  | 'layerNormGrad'
  | 'mlp'
  | 'scan'
  | 'scanGrad'
  | 'adds';

export interface PeerWork {
  readonly id: string;
  readonly kind: Kind;
  readonly inputs: Readonly<Record<string, Input>>;
  /** The ratio to the fastest engine on the same adapter that is the least to be reached. */
  readonly target?: number;
}

const input = (shape: readonly number[], low = -1, high = 1): Input => ({ shape, low, high });

function matmul(label: string, M: number, N: number, K: number): PeerWork {
  return { id: `matmul ${label}`, kind: 'matmul', inputs: { a: input([M, K]), b: input([K, N]) }, target: 5 };
}

const ROWS = 8 * 258;
const WIDE = [8, 258, 736] as const,
  NARROW = [8, 258, 368] as const;

/**
 * gate: silu(x) y + z. conv: depthwise and causal over tokens, weight (width, channels). scan: Δ = softplus(delta), then
 * h = exp(Δ A) h + Δ u B and out = C h + u. What ends in Grad also takes the gradient of the result, `g`, and gives those of its other
 * inputs in order. mlp: three layers of 512 with ReLU between, mean squared error, three steps of Adam from zero moments; gives the
 * parameters. adds: x + b a thousand times, an operation each.
 */
export const WORKS: readonly PeerWork[] = [
  matmul('512³', 512, 512, 512),
  matmul('1024³', 1024, 1024, 1024),
  matmul('DiS-S in_proj', ROWS, 1472, 368),
  matmul('DiS-S x_proj', ROWS, 55, 736),
  matmul('DiS-S out_proj', ROWS, 368, 736),
  matmul('DiS-B in_proj', ROWS, 3072, 768),
  matmul('DiS-B x_proj', ROWS, 80, 1536),
  matmul('DiS-B out_proj', ROWS, 768, 1536),
  {
    id: 'MLP 3×512, batch 256, Adam step',
    kind: 'mlp',
    target: 4,
    inputs: {
      x: input([256, 512]),
      t: input([256, 512]),
      w1: input([512, 512], -0.05, 0.05),
      w2: input([512, 512], -0.05, 0.05),
      w3: input([512, 512], -0.05, 0.05),
    },
  },
  ...[66, 258].flatMap((L): PeerWork[] => {
    const inputs = {
      u: input([2, L, 128]),
      delta: input([2, L, 128], -0.5, 0.5),
      A: input([128, 16], -1.1, -0.1),
      B: input([2, L, 16]),
      C: input([2, L, 16]),
    };
    return [
      { id: `selective scan forward, B2 L${L} D128 N16`, kind: 'scan', inputs },
      {
        id: `selective scan forward + backward, B2 L${L} D128 N16`,
        kind: 'scanGrad',
        inputs: { ...inputs, g: input([2, L, 128]) },
        ...(L === 258 && { target: 50 }),
      },
    ];
  }),
  { id: 'depthwise conv1d forward', kind: 'conv', inputs: { x: input(WIDE), w: input([4, 736]) } },
  {
    id: 'depthwise conv1d forward + backward',
    kind: 'convGrad',
    inputs: { x: input(WIDE), w: input([4, 736]), g: input(WIDE) },
    target: 5,
  },
  {
    id: 'layer norm forward',
    kind: 'layerNorm',
    inputs: { x: input(NARROW), weight: input([368]), bias: input([368]) },
  },
  {
    id: 'layer norm forward + backward',
    kind: 'layerNormGrad',
    inputs: { x: input(NARROW), weight: input([368]), bias: input([368]), g: input(NARROW) },
    target: 2.5,
  },
  { id: 'softmax 2064×368', kind: 'softmax', inputs: { x: input([ROWS, 368], -4, 4) }, target: 3 },
  { id: 'silu(x)·y + z forward', kind: 'gate', inputs: { x: input(WIDE), y: input(WIDE), z: input(WIDE) } },
  {
    id: 'silu(x)·y + z forward + backward',
    kind: 'gateGrad',
    inputs: { x: input(WIDE), y: input(WIDE), z: input(WIDE), g: input(WIDE) },
    target: 2,
  },
  { id: '1,000 dependent adds of 4,096', kind: 'adds', inputs: { x: input([4096]), b: input([4096]) }, target: 1.2 },
];

/** Numbers of an input, from its place among the inputs: a hash of the index, so that any language makes them alike. */
export function valuesOf({ shape, low, high }: Input, seed: number): Float32Array {
  const out = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < out.length; i++) {
    let h = Math.imul((i ^ Math.imul(seed + 1, 0x9e3779b9)) >>> 0, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    h ^= h >>> 16;
    out[i] = low + (high - low) * ((h >>> 8) / 2 ** 24);
  }
  return out;
}

/** What stands for a result: its length, its mean magnitude, and values from all over it. */
export interface Digest {
  readonly count: number;
  readonly magnitude: number;
  readonly values: number[];
}

export function digestOf(values: ArrayLike<number>): Digest {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.abs(values[i]);
  const picks = Math.min(values.length, 199);
  return {
    count: values.length,
    magnitude: sum / values.length,
    values: Array.from({ length: picks }, (_, i) => values[Math.floor((i * values.length) / picks)]),
  };
}

/** The largest difference between two engines' results, relative to the mean magnitude; Infinity where they differ in kind. */
export function difference(a: readonly Digest[], b: readonly Digest[]): number {
  if (a.length !== b.length) return Infinity;
  return Math.max(
    ...a.map((x, k) => {
      const y = b[k];
      if (x.count !== y.count) return Infinity;
      const scale = Math.max(x.magnitude, 1e-30);
      const worst = Math.max(Math.abs(x.magnitude - y.magnitude), ...x.values.map((v, i) => Math.abs(v - y.values[i])));
      return Number.isFinite(worst) ? worst / scale : Infinity;
    }),
  );
}
