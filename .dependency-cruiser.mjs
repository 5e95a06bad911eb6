// The order of the house: imports run from the storeys above to those below, and never in a circle. `npm run lint` enforces it.
// cli → models → nn → kernels → core, and inside of core gpu < tensor < autograd < expr < ops, gemm, random < capture,
// tuning, profile < the files at the top of core.

/** Each storey is a pattern of paths; it may import those before it, and its own. Those in one line stand side by side. */
const STOREYS = [
  ['core/errors.ts', '^core/errors\\.ts$'],
  ['core/gpu', '^core/gpu/'],
  ['core/tensor', '^core/tensor/'],
  ['core/autograd', '^core/autograd/'],
  ['core/expr', '^core/expr/'],
  ['core/ops, core/gemm and core/random', '^core/(ops|gemm|random)/'],
  ['core/capture, core/tuning and core/profile', '^core/(capture|tuning|profile)/'],
  ['the top of core', '^core/(methods/|(?!errors\\.ts$)[^/]+\\.ts$)'],
  ['kernels', '^kernels/'],
  ['nn', '^nn/'],
  ['models', '^models/'],
  ["the package's root", '^index\\.ts$'],
  ['cli', '^cli/'],
];
const BESIDE = '^(bench|docs|test|examples)/';
/** Tensor has its operations as methods, and they take and give tensors: the one circle, of types alone. */
const TENSOR = '^core/tensor\\.ts$';
const storeyRules = STOREYS.flatMap(([name, path], i) => {
  const below = STOREYS.slice(0, i).map(([lower]) => lower);
  const rule = {
    name: `storeys: ${name}`,
    comment: `${name} may import what stands below: ${below.join(', ') || 'nothing'}.`,
    severity: 'error',
    from: { path },
  };
  const above = [...STOREYS.slice(i + 1).map(([, higher]) => higher), BESIDE];
  // The type of a tensor may be named anywhere but below tensors.
  if (i < 2 || !path.startsWith('^core/')) return [{ ...rule, to: { path: above } }];
  return [
    { ...rule, to: { path: above, pathNot: TENSOR } },
    { ...rule, to: { path: TENSOR, dependencyTypesNot: ['type-only'] } },
  ];
}).filter(({ from, to }) => !(to.path === TENSOR && from.path.startsWith('^core/(methods/')));

export default {
  forbidden: [
    {
      name: 'no circle at run time',
      comment: 'Modules that load each other depend on the order in which they are loaded.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no circle of types but that of Tensor and its operations',
      comment: 'A file that needs the type of one above it is not understood from below: give it a smaller interface.',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { pathNot: TENSOR } },
    },
    ...storeyRules,
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { extensions: ['.ts', '.mts', '.js', '.mjs'] },
  },
};
