// A page for each command of dis-cli, made of what commander knows of it, so that it cannot fall behind `--help`.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command, Option } from 'commander';
import { createProgram } from '../../cli/program.ts';
import { PROJECT } from './markdown.ts';

export async function writeCommandPages(): Promise<void> {
  for (const command of (await createProgram()).commands) {
    if (command.name() === 'help') continue;
    const to = join(PROJECT, `docs/commands/${command.name()}.md`);
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, commandPage(command));
  }
}

function commandPage(command: Command): string {
  const parts = ['---\npageClass: options\n---', `# dis-cli ${command.name()}`, sentence(command.description())];
  parts.push(`\`\`\`text\nnpx dis-cli ${command.name()} ${command.usage()}\n\`\`\``);
  const operands = command.registeredArguments;
  if (operands.length > 0)
    parts.push(
      table(
        ['Argument', 'What'],
        operands.map((operand) => [code(operand.name()), escaped(operand.description)]),
      ),
    );
  const groups = new Map<string, Option[]>();
  for (const option of command.options) {
    if (option.hidden) continue;
    const group = option.helpGroupHeading ?? 'Options:';
    groups.set(group, [...(groups.get(group) ?? []), option]);
  }
  for (const [group, options] of groups) {
    parts.push(`## ${group.replace(/:$/, '')}`);
    parts.push(table(['Option', 'What', 'Default'], options.map(optionRow)));
  }
  parts.push(`The same is told by \`npx dis-cli ${command.name()} --help\`.`);
  return `${parts.join('\n\n')}\n`;
}

function optionRow(option: Option): string[] {
  const { defaultValue, defaultValueDescription, negate } = option;
  const silent = defaultValue === undefined || negate || typeof defaultValue === 'boolean';
  return [
    code(option.flags.replaceAll(' ', '\u00a0')),
    escaped(option.description),
    silent ? '' : code(defaultValueDescription ?? String(defaultValue)),
  ];
}

const sentence = (text: string): string => `${escaped(text[0].toUpperCase() + text.slice(1))}.`;
const code = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;
const escaped = (text: string): string => text.replace(/[|<>*_{}[\]\\`]/g, (character) => `\\${character}`);
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');
