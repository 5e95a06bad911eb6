// The commands that the documents name exist, and so do their options. What blocks of a shell call of dis-cli goes through its own
// definitions: arguments, options and values are checked as they are when somebody types it. Blocks that are marked `run` are run
// (shellBlocks.test.ts).

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CommanderError, type Command } from 'commander';
import { createProgram } from '../../cli/program.ts';
import { codeSpans, pages, PROJECT } from '../../docs/site/markdown.ts';

const test = suite('commands in documents');
const { scripts } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

interface Named {
  readonly at: string;
  readonly words: readonly string[];
}

/** A line of a shell, with what the tests understand of it: `&&`, `;`, quotes, comments and variables before a command. */
function commands(at: string, line: string): Named[] {
  const words = (line.match(/"[^"]*"|'[^']*'|&&|;|#.*|[^\s;&]+/g) ?? [])
    .filter((word) => !word.startsWith('#'))
    .map((word) => word.replace(/^(["'])(.*)\1$/, '$2'));
  const found: string[][] = [[]];
  for (const word of words) {
    if (word === '&&' || word === ';') found.push([]);
    else if (found.at(-1)!.length > 0 || !/^\w+=/.test(word)) found.at(-1)!.push(word);
  }
  return found.filter((each) => each.length > 0).map((each) => ({ at, words: each }));
}

const all = pages();
const inBlocks = all.flatMap(({ blocks, file }) =>
  blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code, line }) => code.split('\n').flatMap((text, i) => commands(`${file}:${line + i}`, text))),
);
const inProse = all.flatMap((page) =>
  codeSpans(page)
    .filter(({ code }) => /^(npx |npm run |npm test|dis-cli |node cli)/.test(code))
    .flatMap(({ code, line }) => commands(`${page.file}:${line}`, code)),
);

/** Programs of the system that lines may begin with. */
const OF_THE_SYSTEM = ['apt-get', 'dpkg', 'tail'];

const helps = new Map<string, Promise<string>>();

/** What a program says of itself; asked once. */
function help(...command: string[]): Promise<string> {
  const key = command.join(' ');
  let text = helps.get(key);
  if (!text) {
    text = promisify(execFile)(process.execPath, [...command, '--help'], { cwd: PROJECT }).then(({ stdout }) => stdout);
    helps.set(key, text);
  }
  return text;
}

/** The options that a program's help lists. */
const optionsInHelp = (text: string): string[] =>
  [...text.matchAll(/^ {2}(?:(-\w), )?(--[\w-]+)/gm)].flatMap(([, short, long]) => [short, long]);

/** Options of a command line that are not known. */
function unknownOptions(words: readonly string[], known: readonly string[]): string[] {
  return words
    .filter((word) => /^--?[a-z]/i.test(word))
    .map((word) => word.split('=')[0])
    .filter((word) => !known.includes(word));
}

/** What dis-cli says of a command line before it does anything, or null. */
async function refusal(words: readonly string[]): Promise<string | null> {
  const program = await createProgram();
  program.commands.forEach(idle);
  try {
    await program.parseAsync(words, { from: 'user' });
    return null;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return null;
    return (error as Error).message;
  }
}

/** Takes away what a command does, and what it prints. */
function idle(command: Command): void {
  command.action(() => undefined).configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  command.commands.forEach(idle);
}

/** What is wrong with a command, or null. */
async function problem(words: readonly string[]): Promise<string | null> {
  const cli = words.indexOf('dis-cli');
  if (cli >= 0) return cliProblem(words.slice(cli + 1));
  const [program, what, ...rest] = words;
  if (program === 'npm') return npmProblem(what, rest);
  if (OF_THE_SYSTEM.includes(program)) return null;
  // Vite's own commands: the package's test runs them.
  if (program === 'npx' && what === 'vite') return null;
  const file = program === 'node' ? what : program === 'npx' && what === 'tsx' ? rest[0] : program;
  if (!file?.includes('/')) return `the test does not know ${words.slice(0, 2).join(' ')}`;
  return existsSync(join(PROJECT, file)) ? null : `there is no ${file}`;
}

/** The same of a command of dis-cli that a sentence names, whole or in part. */
async function cliProblem([name, ...rest]: readonly string[]): Promise<string | null> {
  const program = await createProgram();
  if (name === undefined) return null;
  if (name.startsWith('-')) return complaint(unknownOptions([name], optionsOf(program)));
  if (name === 'help') return null;
  const command = program.commands.find((each) => each.name() === name);
  return command ? complaint(unknownOptions(rest, optionsOf(command))) : `dis-cli has no command ${name}`;
}

function optionsOf(command: Command): string[] {
  return ['-h', '--help', ...command.options.flatMap(({ short, long }) => [short ?? '', long ?? ''])];
}

async function npmProblem(what: string | undefined, rest: readonly string[]): Promise<string | null> {
  if (what === 'ci' || what === 'install') return null;
  const name = what === 'run' ? rest[0] : what;
  if (name === undefined || !Object.hasOwn(scripts, name)) return `package.json has no script ${name}`;
  const options = rest.includes('--') ? rest.slice(rest.indexOf('--') + 1) : [];
  if (!options.some((word) => word.startsWith('-'))) return null;
  const program = /^node --import tsx (\S+)$/.exec(scripts[name])?.[1];
  if (program === undefined) return `the test cannot ask ${name} for its options`;
  return complaint(unknownOptions(options, optionsInHelp(await help('--import', 'tsx', program))));
}

function complaint(unknown: readonly string[]): string | null {
  return unknown.length === 0 ? null : `there is no option ${unknown.join(', ')}`;
}

/** The same of a line that somebody may type as it stands. */
async function lineProblem(words: readonly string[]): Promise<string | null> {
  const cli = words.indexOf('dis-cli');
  return cli >= 0 ? refusal(words.slice(cli + 1)) : problem(words);
}

async function problems(named: readonly Named[], of = problem): Promise<string[]> {
  const found: string[] = [];
  for (const { at, words } of named) {
    const wrong = await of(words);
    if (wrong !== null) found.push(`${at}: ${words.join(' ')}: ${wrong}`);
  }
  return found;
}

test('commands of sh blocks are taken as they stand', async () => {
  assert.ok(inBlocks.length > 10);
  assert.equal(await problems(inBlocks, lineProblem), []);
});

test('commands in prose exist, with their options', async () => {
  assert.ok(inProse.length > 10);
  assert.equal(await problems(inProse), []);
});

test('docs/commands.md lists every command, and every variable of the environment', async () => {
  const { prose } = all.find(({ file }) => file === 'docs/commands.md')!;
  const rows = prose.flatMap((text) => /^\| `([^`]+)` \|/.exec(text)?.[1] ?? []);
  const commands = (await createProgram()).commands.map((command) => `dis-cli ${command.name()}`);
  assert.equal(
    [...commands, 'DIS_VULKAN_DIR', 'DIS_CACHE_DIR', 'DIS_DEBUG'].filter((name) => !rows.includes(name)),
    [],
  );
});

test('what does not exist is found', async () => {
  const wrong = ['npx dis-cli tarin', 'npx dis-cli train --stesp 3', 'npm run bnech', 'npm run bench -- --quik'];
  const found = await problems(wrong.flatMap((line) => commands('here', line)));
  assert.is(found.length, wrong.length, found.join('\n'));
});

test('what dis-cli refuses is found', async () => {
  const wrong = ['dis-cli sample', 'dis-cli train --steps many', 'dis-cli train --loss sme', 'dis-cli info a b'];
  const found = await problems(
    wrong.flatMap((line) => commands('here', line)),
    lineProblem,
  );
  assert.is(found.length, wrong.length, found.join('\n'));
});

test.run();
