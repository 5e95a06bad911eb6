// How this program is called here, for sentences that tell a person what to type.

import { basename, relative } from 'node:path';

/** The command line that calls this program with `args`, as it was called itself: by its name, or by its path in a clone. */
export function invocation(...args: readonly string[]): string {
  const script = process.argv[1] ?? '';
  const program = basename(script) === 'dis-cli.mjs' ? `node ${quoted(relative(process.cwd(), script))}` : 'dis-cli';
  return [program, ...args.map(quoted)].join(' ');
}

function quoted(argument: string): string {
  return /^[\w./:=,@%+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
