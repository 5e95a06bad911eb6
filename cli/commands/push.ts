// `dis-cli push`: a run's newest checkpoint to a repository of the Hugging Face Hub.

import { Command } from 'commander';
import { openHub, repoName } from '../hub/client.ts';
import { push } from '../hub/push.ts';
import { interruptible } from '../interrupt.ts';
import { print, printable } from '../printable.ts';
import { defaultStyle } from '../progress.ts';

interface PushCommandOptions {
  readonly optimizer?: boolean;
  readonly public?: boolean;
  readonly quiet?: boolean;
}

export function pushCommand(): Command {
  return new Command('push')
    .description(
      'a run or checkpoint to a repository of the Hugging Face Hub: safetensors, config.json and a model card. The token is ' +
        'read from HF_TOKEN or where `hf auth login` leaves it',
    )
    .argument('<owner/name>', 'the repository; made where there is none')
    .argument('<run>', 'a run, whose newest checkpoint is taken, or a checkpoint')
    .option('--optimizer', "also the optimizer's state, from which training goes on")
    .option('--public', 'a repository that is made can be seen by everybody')
    .option('-q, --quiet', 'say nothing')
    .action(async (name: string, run: string, options: PushCommandOptions) => {
      const repository = repoName(name);
      const access = await openHub();
      const style = options.quiet ? 'none' : defaultStyle('lines');
      const url = await interruptible((signal) => push(access, repository, run, { ...options, style, signal }));
      if (!options.quiet) print(printable(`Pushed to ${url}`));
    });
}
