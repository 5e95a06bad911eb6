// `dis-cli pull`: a repository of the Hugging Face Hub as a checkpoint folder.

import { basename, join } from 'node:path';
import { Command } from 'commander';
import { openHub, repoName } from '../hub/client.ts';
import { pull } from '../hub/pull.ts';
import { interruptible } from '../interrupt.ts';
import { invocation } from '../invocation.ts';
import { flag, text } from '../options.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle } from '../progress.ts';

interface PullCommandOptions {
  readonly revision?: string;
  readonly optimizer?: boolean;
  readonly quiet?: boolean;
}

export function pullCommand(): Command {
  return new Command('pull')
    .description(
      'a repository of the Hugging Face Hub that dis-cli push made, as a checkpoint folder; what an interrupted download ' +
        'left is gone on from',
    )
    .argument('<owner/name>', 'the repository')
    .argument('[folder]', 'where it goes (default: runs/NAME)')
    .addOption(flag('--revision <name>', 'a branch, a tag or a commit (default: main)', text))
    .option('--optimizer', "also the optimizer's state")
    .option('-q, --quiet', 'say nothing')
    .action(async (name: string, folder: string | undefined, options: PullCommandOptions) => {
      const repository = repoName(name);
      const access = await openHub();
      const to = folder ?? join('runs', basename(repository));
      const style = options.quiet ? 'none' : defaultStyle('lines');
      const files = await interruptible((signal) => pull(access, repository, to, { ...options, style, signal }));
      if (!options.quiet)
        print(printable(`Pulled ${files.join(', ')} to ${to}. Look at samples with ${invocation('sample', to)}`));
    });
}
