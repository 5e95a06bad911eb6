// The API reference: what TypeDoc reads of the entry points and their docstrings, written as Markdown pages.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, Converter, type DeclarationReflection, ReflectionKind, type TypeDocOptions } from 'typedoc';
import type { PluginOptions } from 'typedoc-plugin-markdown';
import { entryPoints } from './entryPoints.ts';
import { PROJECT } from './markdown.ts';

export async function writeApiPages(): Promise<void> {
  const options: TypeDocOptions & Partial<PluginOptions> = {
    // The root exports what the others do.
    entryPoints: [...entryPoints().values()].filter((path) => path !== 'index.ts').map((path) => join(PROJECT, path)),
    tsconfig: join(PROJECT, 'tsconfig.json'),
    plugin: ['typedoc-plugin-markdown'],
    out: join(PROJECT, 'docs/api'),
    name: 'API',
    readme: 'none',
    skipErrorChecking: true, // `npm run typecheck` has them
    excludePrivate: true,
    excludeInternal: true,
    excludeExternals: true,
    disableSources: true,
    basePath: PROJECT,
    logLevel: 'Error',
    entryFileName: 'index',
    hidePageHeader: true,
    hideBreadcrumbs: true,
    useCodeBlocks: true,
    expandParameters: true,
    indexFormat: 'table',
    parametersFormat: 'table',
    interfacePropertiesFormat: 'table',
    classPropertiesFormat: 'table',
    typeAliasPropertiesFormat: 'table',
    tableColumnSettings: { hideSources: true, hideInherited: true, hideOverrides: true, hideModifiers: true },
    pageTitleTemplates: {
      module: ({ name }) => `dis-webgpu/${name}`,
      member: ({ name }) => name,
    },
  };
  const app = await Application.bootstrapWithPlugins(options as TypeDocOptions);
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => {
    // A layer's page tells what it adds to Module. What comes of a class that has no page of its own stays.
    for (const member of project.getReflectionsByKind(ReflectionKind.ClassMember) as DeclarationReflection[])
      if (member.inheritedFrom?.reflection) project.removeReflection(member);
  });
  const project = await app.convert();
  if (!project) throw new Error('TypeDoc cannot read the sources.');
  await app.generateOutputs(project);
  writeFileSync(join(PROJECT, 'docs/api/index.md'), overview());
}

/** The entry points, each with the comment that its file begins with. */
function overview(): string {
  const rows = [...entryPoints()].map(([name, source]) => {
    const [comment] = /^(\/\/.*\n)+/.exec(readFileSync(join(PROJECT, source), 'utf8')) ?? [''];
    const about = comment
      .replace(/^\/\/ ?/gm, '')
      .trim()
      .replaceAll('\n', ' ');
    const page = source.replace(/(\/?index)?\.ts$/, '');
    return `| ${page === '' ? `\`${name}\`` : `[\`${name}\`](./${page}/index.md)`} | ${about} |`;
  });
  return `# API reference

Every name that the package exports, with shapes, units and errors, from the docstrings of the sources.

| import from | holds |
|---|---|
${rows.join('\n')}
`;
}
