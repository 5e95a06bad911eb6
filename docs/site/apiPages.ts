// The API reference: what TypeDoc reads of the entry points and their docstrings, written as Markdown pages.

import { join } from 'node:path';
import { Application, Converter, type DeclarationReflection, ReflectionKind, type TypeDocOptions } from 'typedoc';
import type { PluginOptions } from 'typedoc-plugin-markdown';
import { entryPoints } from './entryPoints.ts';
import { PROJECT } from './markdown.ts';

export async function writeApiPages(): Promise<void> {
  const options: TypeDocOptions & Partial<PluginOptions> = {
    entryPoints: [...entryPoints().values()].map((path) => join(PROJECT, path)),
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
}
