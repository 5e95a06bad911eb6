// Every public name of the package, as TypeScript sees it: what its entry points export, and the members of exported classes.

import { join } from 'node:path';
import ts from 'typescript';
import { entryPoints } from './entryPoints.ts';
import { PROJECT } from './markdown.ts';

export interface PublicName {
  /** `Tensor`, `Tensor.add` */
  readonly name: string;
  /** File and line of its declaration. */
  readonly at: string;
  readonly documented: boolean;
}

export function publicNames(): PublicName[] {
  const config = ts.readConfigFile(join(PROJECT, 'tsconfig.json'), (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, PROJECT);
  const files = [...entryPoints().values()].map((file) => join(PROJECT, file));
  const program = ts.createProgram(files, options);
  const checker = program.getTypeChecker();
  const found = new Map<ts.Symbol, PublicName>();
  for (const file of files) {
    for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file)!)!)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      if (found.has(symbol)) continue;
      const documented =
        [symbol, exported].some((each) => each.getDocumentationComment(checker).length > 0) ||
        // Of `export * as name`, where the comment belongs to the statement.
        (exported.declarations ?? []).some(({ parent }) => ts.getJSDocCommentsAndTags(parent).length > 0);
      add(symbol, exported.name, documented);
      if (symbol.flags & ts.SymbolFlags.Class) members(symbol, exported.name);
    }
  }
  return [...found.values()];

  function add(symbol: ts.Symbol, name: string, documented: boolean): void {
    const declaration = symbol.declarations?.[0];
    if (!declaration || symbol.getJsDocTags(checker).some((tag) => tag.name === 'internal')) return;
    const source = declaration.getSourceFile();
    const line = source.getLineAndCharacterOfPosition(declaration.getStart()).line + 1;
    found.set(symbol, { name, at: `${source.fileName.slice(PROJECT.length)}:${line}`, documented });
  }

  function members(type: ts.Symbol, name: string): void {
    for (const side of [checker.getDeclaredTypeOfSymbol(type), checker.getTypeOfSymbol(type)]) {
      for (const member of checker.getPropertiesOfType(side)) {
        const declaration = member.declarations?.[0];
        const foreign = !declaration || declaration.getSourceFile().fileName.includes('/node_modules/');
        if (foreign || found.has(member) || member.name.startsWith('__')) continue;
        const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
        if (ts.getCombinedModifierFlags(declaration) & hidden) continue;
        add(member, `${name}.${member.name}`, member.getDocumentationComment(checker).length > 0);
      }
    }
  }
}
