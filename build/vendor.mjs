// Packages that only the command line needs are put into the package, a module each, so that whoever installs the library for a page
// downloads nothing for the command line's sake. Their licences lie beside them.

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { build } from 'esbuild';

/** Imports of packages: `from 'x'`, `import('x')`, `import 'x'`. */
const IMPORT = /(\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)(["'])(@?[a-z0-9][\w./-]*(?::[\w/]+)?)\2/g;

/**
 * Bundles every package that the modules of `folder` import, but for those that are installed beside this one, into `vendor/` there.
 * @param {string} folder with JavaScript modules, which are rewritten
 * @param {(name: string) => boolean} installed whether a package is a dependency, or one that is asked for
 * @param {string} project where packages are found
 */
export async function vendor(folder, installed, project) {
  const target = join(folder, 'vendor');
  /** @type {Map<string, string>} file by what is imported */
  const bundled = new Map();
  for (const file of modules(folder)) {
    const code = readFileSync(file, 'utf8');
    const rewritten = code.replace(IMPORT, (whole, before, quote, specifier) => {
      if (isBuiltin(specifier) || installed(packageOf(specifier))) return whole;
      if (!bundled.has(specifier)) bundled.set(specifier, join(target, `${specifier.replace(/\W+/g, '-')}.js`));
      const path = relative(dirname(file), bundled.get(specifier)).replaceAll('\\', '/');
      return `${before}${quote}${path.startsWith('.') ? path : `./${path}`}${quote}`;
    });
    if (rewritten !== code) writeFileSync(file, rewritten);
  }
  if (bundled.size === 0) return;
  mkdirSync(target, { recursive: true });
  // Named one by one: what a CommonJS package exports is known only when it is loaded.
  const entries = mkdtempSync(join(project, '.vendor-'));
  const entryPoints = {};
  for (const [specifier, file] of bundled) {
    const names = Object.keys(await import(specifier)).filter((name) => /^[A-Za-z_$][\w$]*$/.test(name));
    const name = relative(target, file).replace(/\.js$/, '');
    entryPoints[name] = join(entries, `${name}.mjs`);
    writeFileSync(entryPoints[name], `export { ${names.join(', ')} } from ${JSON.stringify(specifier)};\n`);
  }
  const { metafile } = await build({
    entryPoints,
    absWorkingDir: project,
    outdir: target,
    bundle: true,
    splitting: true,
    minify: true,
    metafile: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    legalComments: 'none',
    // CommonJS packages ask for Node's modules by require().
    banner: {
      js: "import { createRequire as __nodeRequire } from 'node:module'; const require = __nodeRequire(import.meta.url);",
    },
  });
  rmSync(entries, { recursive: true });
  const inside = new Set(
    Object.keys(metafile.inputs).flatMap((path) => {
      const at = path.lastIndexOf('node_modules/');
      return at < 0 ? [] : [join(project, path.slice(0, at), 'node_modules', packageOf(path.slice(at + 13)))];
    }),
  );
  writeFileSync(join(target, 'LICENSES.txt'), [...inside].sort().map(notice).join('\n\n'));
}

/** `@scope/name/path` → `@scope/name`. */
export function packageOf(specifier) {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function notice(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const file = readdirSync(folder).find((entry) => /^(licen[cs]e|copying)(\.|$)/i.test(entry));
  return `${name} ${version} (${license})\n\n${file ? readFileSync(join(folder, file), 'utf8').trim() : 'No licence file.'}\n`;
}

/** @returns {string[]} */
function modules(folder) {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js') && !name.startsWith('vendor'))
    .map((name) => join(folder, name));
}
