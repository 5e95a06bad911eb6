// The table for PyTorch users: every expression in it compiles against the sources, so every name in it exists and takes what the table
// says; and every operation, layer, initialiser, loss and optimizer has its place there.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pages, PROJECT } from '../../docs/site/markdown.ts';

const test = suite('for PyTorch users');
const { options } = readConfig();
const program = ts.createProgram([join(PROJECT, 'models/index.ts')], options);
const { prose } = pages().find(({ file }) => file === 'docs/pytorch.md')!;

/** What the second column of the tables has, with its line. */
const expressions = prose.flatMap((text, i) => {
  const [, , ours] = text.split('|');
  if (ours === undefined || /^\s*(here|-+)\s*$/.test(ours)) return [];
  return [...ours.matchAll(/`([^`]+)`/g)].map(([, code]) => ({ line: i + 1, code }));
});

const MODULES = { core: 'core/index.ts', kernels: 'kernels/index.ts', nn: 'nn/index.ts', models: 'models/index.ts' };
const PRELUDE = `import * as core from '../../core/index.ts';
import * as kernels from '../../kernels/index.ts';
import * as nn from '../../nn/index.ts';
import * as models from '../../models/index.ts';
declare const device: core.Device, g: core.Generator, x: core.Tensor, y: core.Tensor, i: core.Tensor;
declare const model: nn.Module, optimizer: nn.SGD, dataset: models.Dataset;
`;

test('every expression compiles', () => {
  assert.ok(expressions.length > 150, `${expressions.length} expressions`);
  const own = new Set(['device', 'g', 'x', 'y', 'i', 'model', 'optimizer', 'dataset']);
  const names = (file: string): string[] => [...exportsOf(file)].filter((name) => !own.has(name));
  const taken = new Set<string>();
  const unpacked = Object.entries(MODULES).map(([module, file]) => {
    const mine = names(file).filter((name) => !taken.has(name));
    for (const name of mine) taken.add(name);
    return `const { ${mine.join(', ')} } = ${module};`;
  });
  const prelude = `${PRELUDE}${unpacked.join(' ')}\n`;
  const first = prelude.split('\n').length;
  // A statement each, on a line of its own.
  const source = `${prelude}${expressions.map(({ code }) => `(${code});`).join('\n')}\nexport {};\n`;
  const path = join(PROJECT, 'test/docs/pytorch.table.ts');
  const host = ts.createCompilerHost(options);
  const { getSourceFile, fileExists } = host;
  host.fileExists = (name) => name === path || fileExists(name);
  host.getSourceFile = (name, language) =>
    name === path ? ts.createSourceFile(path, source, language) : getSourceFile(name, language);
  const table = ts.createProgram([path], { ...options, noUnusedLocals: false }, host, program);
  const file = table.getSourceFile(path);
  const wrong = [...table.getSyntacticDiagnostics(file), ...table.getSemanticDiagnostics(file)].map((diagnostic) => {
    const at = file!.getLineAndCharacterOfPosition(diagnostic.start!).line + 1 - first;
    const what = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n');
    const expression = expressions[at];
    return expression ? `docs/pytorch.md:${expression.line}: ${expression.code}: ${what}` : what;
  });
  assert.equal(wrong, []);
});

test('every operation, layer, initialiser, loss and optimizer is in the table', () => {
  const written = expressions.map(({ code }) => code).join('\n');
  const wanted = [
    ...exportsOf('core/ops/index.ts'),
    'scaledDotProductAttention',
    ...exportsOf('nn/index.ts').filter((name) => /^[A-Z]|Loss$/.test(name)),
    ...exportsOf('nn/init.ts').map((name) => `init.${name}`),
  ].filter((name) => !ELSEWHERE.has(name) && !/Kernel$|^[A-Z_]+_[A-Z_]+$/.test(name));
  const absent = wanted.filter(
    (name) => !new RegExp(`(^|[^\\w])${name.replace('.', '\\.')}(?!\\w)`, 'm').test(written),
  );
  assert.equal(absent, []);
});

/** Parts of kernels and of file formats, which PyTorch's users know nothing of, and what methods stand for. */
const ELSEWHERE = new Set(['copyInto', 'Optimizer', 'SafetensorsTensors', 'PtTensor', 'PtObject', 'PtType']);

function readConfig(): ts.ParsedCommandLine {
  const text = JSON.parse(readFileSync(join(PROJECT, 'tsconfig.json'), 'utf8')) as object;
  return ts.parseJsonConfigFileContent(text, ts.sys, PROJECT);
}

/** Names of the values that a module exports. */
function exportsOf(file: string): string[] {
  const checker = program.getTypeChecker();
  const module = checker.getSymbolAtLocation(program.getSourceFile(join(PROJECT, file))!)!;
  return checker
    .getExportsOfModule(module)
    .filter((symbol) => {
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      const internal = target.getJsDocTags(checker).some(({ name }) => name === 'internal');
      return !internal && (target.flags & (ts.SymbolFlags.Value | ts.SymbolFlags.ValueModule)) !== 0;
    })
    .map(({ name }) => name);
}

test.run();
