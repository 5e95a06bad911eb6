import { test } from 'uvu';
import * as assert from 'uvu/assert';
import ts from 'typescript';
import { tableLine, tableModule, tablesModule } from '../../bench/shippedModule.ts';
import { result } from './result.ts';

/** What a generated module exports, its imports left out. */
function exported<T>(text: string, name: string): T {
  const { outputText } = ts.transpileModule(text, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.CommonJS },
  });
  const exports: Record<string, unknown> = {};
  (new Function('exports', 'require', outputText) as (e: object, r: () => object) => void)(exports, () => ({}));
  return exports[name] as T;
}

test('a tuning becomes a module with each configuration once', () => {
  const entries = {
    'gemm b': { form: 'tile', rows: 4 },
    'gemm a': null,
    "scan it's": { form: 'tile', rows: 4 },
    'gemm c': null,
    'gemm d': { form: 'vector' },
  };
  const text = tableModule({ format: 'dis-tuning-1', adapter: 'acme / one / stock', entries }, result([]));
  assert.match(text, /Measured on acme \/ one \/ stock, 2030-01-02, commit 012345678\.$/m);
  const configs = exported<[unknown, string[]][]>(text, 'configs');
  assert.is(configs.length, 3);
  assert.equal(Object.fromEntries(configs.flatMap(([config, keys]) => keys.map((key) => [key, config]))), entries);
});

test('tables are listed by what is stable of their adapters', () => {
  const { adapter } = result([]);
  const text = tablesModule([
    tableLine({ adapter: { ...adapter, device: "b's" }, tier: 'fast' }, 'b'),
    tableLine({ adapter: { ...adapter, device: 'a' }, tier: 'stock' }, 'a'),
  ]);
  const tables = exported<{ load: unknown }[]>(text, 'TABLES');
  assert.equal(
    tables.map(({ load, ...fields }) => ({ ...fields, load: typeof load })),
    [
      { vendor: 'acme', architecture: 'one', device: 'a', tier: 'stock', load: 'function' },
      { vendor: 'acme', architecture: 'one', device: "b's", tier: 'fast', load: 'function' },
    ],
  );
  assert.match(text, "import('./a.ts')");
});

test.run();
