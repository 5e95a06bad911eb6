// Every block of TypeScript and JavaScript in the documents compiles under `strict`, as a user's project would compile it, and runs. The
// package's entry points are those of package.json, read from the sources. Blocks that are marked `page` run in Chromium
// (pageBlocks.test.ts); they compile here.

import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ts from 'typescript';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { entryPoints } from '../../docs/site/entryPoints.ts';
import { pages, PROJECT } from '../../docs/site/markdown.ts';
import { runChild } from './child.ts';

// Blocks have seconds of work; the machine may be busy.
const LIMIT_MS = 300_000;
const AT_A_TIME = 3;

const test = suite('blocks');

// realpath: macOS has its temporary folders behind a link.
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'dis-blocks-')));
const tsconfig = join(folder, 'tsconfig.json');

/** The blocks as modules, on the lines that they have in the document, so that messages name the right ones. */
const modules = pages()
  .flatMap(({ file, blocks }) => blocks.map((block) => ({ file, ...block })))
  .filter(({ language }) => language === 'ts' || language === 'js')
  .map(({ file, at, line, code, language, marks }) => {
    const path = join(folder, `${at.replace(/[^\w.]+/g, '-')}.m${language}`);
    return { file, at, path, inPage: marks.includes('page'), text: `${'\n'.repeat(line - 1)}${code}\n` };
  });
/** The document of a module, by the path as TypeScript writes it. */
const names = new Map(modules.map(({ path, file }) => [path.replaceAll('\\', '/'), file]));

test.before(() => {
  for (const { path, text } of modules) writeFileSync(path, text);
  symlinkSync(join(PROJECT, 'node_modules'), join(folder, 'node_modules'), 'junction');
  const options = {
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable', 'DOM', 'DOM.Iterable'],
    module: 'NodeNext',
    strict: true,
    allowJs: true,
    checkJs: true,
    noEmit: true,
    allowImportingTsExtensions: true,
    types: ['@webgpu/types', 'node'],
    paths: Object.fromEntries([...entryPoints()].map(([name, source]) => [name, [join(PROJECT, source)]])),
  };
  writeFileSync(tsconfig, JSON.stringify({ compilerOptions: options, include: ['*.mts', '*.mjs'] }));
});

test.after(() => rmSync(folder, { recursive: true, force: true }));

test('the documents have blocks', () => {
  assert.ok(modules.length > 10);
});

test('every block compiles under strict', () => {
  const { options, errors } = ts.parseJsonConfigFileContent(
    JSON.parse(readFileSync(tsconfig, 'utf8')),
    ts.sys,
    folder,
    undefined,
    tsconfig,
  );
  const program = ts.createProgram(
    modules.map(({ path }) => path),
    options,
  );
  // The blocks, and the declarations of other packages that they see; `npm run typecheck` has the sources.
  const checked = program
    .getSourceFiles()
    .filter((file) => (file.isDeclarationFile ? !program.isSourceFileDefaultLibrary(file) : names.has(file.fileName)));
  assert.ok(checked.length > modules.length);
  const diagnostics = [
    ...errors,
    ...program.getOptionsDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...checked.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]),
  ];
  assert.equal(diagnostics.map(complaint), []);
});

function complaint({ file, start, messageText }: ts.Diagnostic): string {
  const text = ts.flattenDiagnosticMessageText(messageText, '\n');
  if (!file || start === undefined) return text;
  const line = file.getLineAndCharacterOfPosition(start).line + 1;
  const document = names.get(file.fileName) ?? file.fileName;
  return `${document}:${line}: ${text}`;
}

test('every block runs', async () => {
  const queue = modules.filter(({ inPage }) => !inPage);
  const failures: string[] = [];
  await Promise.all(
    Array.from({ length: AT_A_TIME }, async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        const problem = await runModule(next.path);
        if (problem !== null) failures.push(`${next.at}: ${problem}`);
      }
    }),
  );
  assert.equal(failures, []);
});

/** What is wrong with a run, or null. It is in the project's folder, whose tsx and software adapter it takes. */
async function runModule(path: string): Promise<string | null> {
  const env = { ...process.env, TSX_TSCONFIG_PATH: tsconfig };
  const { status, output } = await runChild([process.execPath, '--import', 'tsx', path], LIMIT_MS, {
    cwd: PROJECT,
    env,
  });
  if (status === 0) return null;
  const end = status === null ? `not done after ${LIMIT_MS / 1000} s` : `exit status ${status}`;
  return `${end}\n${output.replace(/^Warning: max.*\n/gm, '').slice(-2000)}`;
}

test.run();
