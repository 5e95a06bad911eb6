// A process that opens the weight files of a folder as `dis-cli` does, reads all of them, and tells how each ended and
// what it took: a line of JSON a file, and one of the memory in all.
//
//   npx tsx test/cli/openWeights.ts FOLDER

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openWeightFile } from '../../cli/weightFile.ts';
import { EngineError } from '../../core/errors.ts';

const [folder] = process.argv.slice(2);
for (const file of readdirSync(folder).sort()) {
  const cpu = process.cpuUsage();
  const ended = await readAll(join(folder, file)).then(
    () => ({}),
    (error: unknown) => ({
      message: (error as Error).message,
      ours: error instanceof EngineError,
    }),
  );
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({ file, ...ended, seconds: (user + system) / 1e6 }));
}
console.log(JSON.stringify({ megabytes: process.resourceUsage().maxRSS / 1024 }));

async function readAll(path: string): Promise<void> {
  const opened = await openWeightFile(path);
  try {
    for (const part of [opened.model, opened.ema, opened.optimizer?.moments ?? new Map<string, never>()])
      for (const { read } of part.values()) await read();
  } finally {
    await opened.close();
  }
}
