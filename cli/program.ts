// The command `dis-cli`: its commands, and the way from an error to a sentence and an exit status.

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { EXIT, Interrupted, describeFailure } from './errors.ts';
import { didYouMean } from './options.ts';
import { requirePackages } from './packages.ts';
import { printable, printableLines } from './printable.ts';

/** Each command in its own file, loaded when it is asked for. */
const COMMANDS: Record<string, () => Promise<Command>> = {
  train: async () => (await import('./commands/train.ts')).trainCommand(),
  'train-vae': async () => (await import('./commands/trainVae.ts')).trainVaeCommand(),
  encode: async () => (await import('./commands/encode.ts')).encodeCommand(),
  sample: async () => (await import('./commands/sample.ts')).sampleCommand(),
  convert: async () => (await import('./commands/convert.ts')).convertCommand(),
  eval: async () => (await import('./commands/eval.ts')).evalCommand(),
  push: async () => (await import('./commands/push.ts')).pushCommand(),
  pull: async () => (await import('./commands/pull.ts')).pullCommand(),
  info: async () => (await import('./commands/info.ts')).infoCommand(),
  tune: async () => (await import('./commands/tune.ts')).tuneCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
  setup: async () => (await import('./commands/setup.ts')).setupCommand(),
  quickstart: async () => (await import('./commands/quickstart.ts')).quickstartCommand(),
};

/**
 * Runs one command line.
 * @param argv what follows the program's name
 * @returns the exit status
 */
export async function run(argv: readonly string[]): Promise<number> {
  try {
    const [name] = argv;
    if (name !== undefined && !name.startsWith('-') && name !== 'help' && !Object.hasOwn(COMMANDS, name)) {
      return complain(
        `Unknown command ${JSON.stringify(name)}${didYouMean(name, Object.keys(COMMANDS))}; ` +
          `the commands are ${Object.keys(COMMANDS).join(', ')}.`,
        EXIT.usage,
      );
    }
    const program = await createProgram(name !== undefined && Object.hasOwn(COMMANDS, name) ? [name] : undefined);
    await program.parseAsync(argv, { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError)
      return error.exitCode === 0 || error.code === 'commander.help'
        ? error.exitCode
        : complain(parserSentence(error), EXIT.usage);
    if (error instanceof Interrupted) return EXIT.interrupted;
    const { message, status, unexpected } = describeFailure(error);
    const debug = Boolean(process.env.DIS_DEBUG);
    complain(
      unexpected && !debug ? `${message} This was not expected: DIS_DEBUG=1 shows where it comes from.` : message,
      status,
    );
    if (debug && error instanceof Error) process.stderr.write(`${printableLines(error.stack ?? '')}\n`);
    return status;
  }
}

/** The program with some commands, or with all. */
export async function createProgram(names: readonly string[] = Object.keys(COMMANDS)): Promise<Command> {
  const program = new Command('dis-cli')
    .description('Train and sample DiS, the diffusion model with a state-space backbone, on any GPU through WebGPU.')
    .version(version(), '-v, --version')
    .helpCommand('help [command]', 'explain a command')
    .exitOverride()
    .hook('preAction', (_, command) => requirePackages(command.name()))
    .configureOutput({ outputError: () => {} }) // told by run()
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false });
  for (const name of names) {
    const command = await COMMANDS[name]();
    program.addCommand(command.copyInheritedSettings(program));
  }
  return program;
}

function complain(message: string, status: number): number {
  process.stderr.write(`dis-cli: ${printable(message)}\n`);
  return status;
}

/** What commander complains of, as one sentence: `error: unknown option '--stes'\n(Did you mean --steps?)`. */
function parserSentence(error: CommanderError): string {
  const [first, hint] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = /^\(Did you mean (?:one of )?(.*?)\?\)$/.exec(hint ?? '')?.[1];
  const sentence = `${first[0].toUpperCase()}${first.slice(1).replace(/\.$/, '')}`;
  return `${sentence}${suggestion === undefined ? '; see --help' : `, did you mean ${suggestion}`}.`;
}

/** From the nearest package.json: the same in a clone and in dist/. */
function version(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // Not at this level.
    }
  }
  return 'unknown';
}
