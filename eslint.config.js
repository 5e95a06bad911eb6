import tseslint from 'typescript-eslint';

// Imports run one way: cli → models → nn → kernels → core.
const LAYERS = ['core', 'kernels', 'nn', 'models', 'cli'];
const BESIDE = ['bench', 'docs', 'test', 'examples'];

const forbid = (folders, message) => folders.map((folder) => ({ regex: `^(\\.\\./)+${folder}/`, message }));

/** What a layer may not import: the layers above it, and what stands beside them. */
const upward = (layer) =>
  forbid(
    [...LAYERS.slice(LAYERS.indexOf(layer) + 1), ...BESIDE],
    'Imports run one way: cli → models → nn → kernels → core.',
  );

const NODE_MODULES = {
  regex:
    '^(node:|(assert|buffer|child_process|crypto|events|fs|http|https|module|net|os|path|perf_hooks|process|stream|url|util|v8|vm|worker_threads|zlib)(/|$)|webgpu$|sharp$|commander$)',
  message: 'core, kernels, nn and models run unchanged in browsers: only core/gpu/node.ts touches Node.',
};
const NODE_GLOBALS = [
  'process',
  'Buffer',
  'require',
  'module',
  '__dirname',
  '__filename',
  'global',
  'setImmediate',
  'clearImmediate',
].map((name) => ({ name, message: NODE_MODULES.message }));

const MODULE_SYNTAX = [
  { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
  { selector: 'TSEnumDeclaration', message: 'Use a union of literals.' },
  { selector: 'TSParameterProperty', message: 'Declare the field and assign it.' },
  { selector: 'ImportExpression[source.value=/^(node:|webgpu$|sharp$)/]', message: NODE_MODULES.message },
];

/** Built-in kernels are made of what everybody's are. */
const KIT = {
  regex: '^(\\.\\./)+core/(?!(index|kit)\\.ts$)',
  message: 'Kernels are built on core/index.ts and core/kit.ts alone.',
};

const browserLayer = (layer) => ({
  files: [`${layer}/**/*.ts`],
  ignores: ['core/gpu/node.ts'],
  rules: {
    'no-restricted-imports': [
      'error',
      { patterns: [...upward(layer), NODE_MODULES, ...(layer === 'kernels' ? [KIT] : [])] },
    ],
    'no-restricted-globals': ['error', ...NODE_GLOBALS],
    'no-restricted-syntax': ['error', ...MODULE_SYNTAX],
  },
});

export default tseslint.config(
  {
    ignores: [
      '**/dist/',
      'docs/.vitepress/{cache,.temp}/',
      '.vulkan*/',
      '.cache/',
      '.gpu/',
      'runs/',
      '**/node_modules/',
    ],
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommended],
    rules: {
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' },
      ],
      '@typescript-eslint/consistent-type-imports': [
        'error',
        { fixStyle: 'separate-type-imports', disallowTypeAnnotations: false },
      ],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      'prefer-const': ['error', { destructuring: 'all' }],
      'no-var': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-restricted-syntax': ['error', ...MODULE_SYNTAX.slice(0, 3)],
    },
  },
  {
    files: ['**/*.{js,mjs}'],
    rules: { 'no-unused-vars': 'error', 'prefer-const': 'error', 'no-var': 'error', eqeqeq: 'error' },
  },
  ...['core', 'kernels', 'nn', 'models'].map(browserLayer),
  {
    files: ['core/gpu/node.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: upward('core') }] },
  },
  {
    files: ['cli/**/*.ts'],
    rules: {
      'no-restricted-imports': ['error', { patterns: forbid(BESIDE, 'cli imports only the library and itself.') }],
    },
  },
  {
    files: ['cli/**/*.ts'],
    ignores: ['cli/modelKinds/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            ...forbid(BESIDE, 'cli imports only the library and itself.'),
            { regex: '/models/(dis|index)(/|\\.)', message: 'Only a file of cli/modelKinds knows a model.' },
          ],
        },
      ],
    },
  },
  {
    files: LAYERS.map((layer) => `${layer}/**/*.ts`),
    ignores: ['core/tuning/tuned/**'],
    rules: { 'max-lines': ['error', 400] },
  },
  {
    // Prettier lays out code at 120 columns; this is for what it leaves alone: comments, strings and WGSL.
    files: LAYERS.filter((layer) => layer !== 'cli').map((layer) => `${layer}/**/*.ts`),
    ignores: ['core/tuning/tuned/**'],
    rules: { 'max-len': ['error', 140] },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // uvu's skip and only would drop tests in silence.
      'no-restricted-syntax': [
        'error',
        ...MODULE_SYNTAX.slice(0, 3),
        { selector: 'CallExpression[callee.property.name=/^(skip|only)$/]', message: 'No test is skipped.' },
      ],
    },
  },
  {
    // Of which Vite and VitePress take the default export.
    files: ['**/vite.config.ts', 'docs/.vitepress/**/*.ts'],
    rules: { 'no-restricted-syntax': 'off' },
  },
);
