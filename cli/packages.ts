// The npm packages that commands need and that the library's users are spared: they are large, and are asked for where they are missing.

import { createRequire } from 'node:module';
import { UsageError } from './errors.ts';
import { invocation } from './invocation.ts';

/** What computes under Node, and what reads and writes pictures. */
const NEEDED = ['webgpu', 'sharp'];

/** Commands that neither compute nor touch a picture, or that tell what is missing themselves. */
const WITHOUT = ['setup', 'doctor', 'info', 'help'];

/** @throws UsageError where a package that the command needs is not installed, with what installs it */
export function requirePackages(command: string): void {
  if (WITHOUT.includes(command)) return;
  const missing = NEEDED.filter((name) => !isInstalled(name));
  if (missing.length === 0) return;
  const [are, them] = missing.length > 1 ? ['packages', 'are'] : ['package', 'is'];
  throw new UsageError(
    `The npm ${are} ${missing.join(' and ')} ${them} not installed; run \`${invocation('setup')}\`, which installs what is missing.`,
  );
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}
