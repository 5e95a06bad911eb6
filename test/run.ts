// Runs the tests: each test/**/*.test.ts in a process of its own, a few at a time, and sums what they report.
//
//   node --import tsx test/run.ts [--jobs N] [--serial TEXT] [--timeout SECONDS] [--golden FOLDER] [FILTER…]
//
// A FILTER is part of a path; a file runs when it matches any. What the machine or the reference folder lacks is listed
// as not run, and counts neither as passed nor as failed. The last line is `N passed, N failed`.

import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';

const TEST_FOLDER = dirname(fileURLToPath(import.meta.url));
const PROJECT = dirname(TEST_FOLDER);
// Mesa's software driver spends most of the tests' time in LLVM's optimizer. What it makes of a kernel is checked where
// the numbers of the original are: in the golden tests, the command line's and the browser's.
const QUICK_COMPILER = { GALLIVM_PERF: 'nopt' };
// The longest, begun first: otherwise the last of them runs alone at the end.
const FIRST = [
  'test/kernels/selectiveScan.test.ts',
  'test/core/gemm.test.ts',
  'test/golden/models.test.ts',
  'test/cli/commands.test.ts',
];
// How long a process may live on in silence after its tests are done: whoever holds on to the adapter keeps it from
// exiting.
const EXIT_GRACE_MS = 30_000;

interface Outcome {
  passed: number;
  failed: number;
  /** What is wrong beside the failures that the output shows. */
  problems: string[];
  /** Tests that say that they cannot run here, and tests that leave out a part, with the reason. */
  notRun: string[];
  output: string;
  seconds: number;
}

function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      jobs: { type: 'string' },
      serial: { type: 'string', multiple: true, default: [] },
      timeout: { type: 'string', default: '1800' },
      golden: { type: 'string' },
    },
  });
  const jobs = values.jobs === undefined ? Math.min(2, availableParallelism()) : positive('jobs', values.jobs);
  const timeout = positive('timeout', values.timeout) * 1000;
  const env = { ...process.env };
  if (values.golden !== undefined) {
    const folder = resolve(values.golden);
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
      throw new Error(`--golden is ${values.golden}, expected a folder.`);
    env.GOLDEN_DIR = folder;
  }
  const files = testFiles(TEST_FOLDER)
    .map((file) => relative(PROJECT, file).split(sep).join('/'))
    .sort()
    .filter((file) => positionals.length === 0 || positionals.some((text) => file.includes(text)));
  if (files.length === 0) throw new Error(`No test file matches ${positionals.join(' ') || 'test/**/*.test.ts'}.`);
  return runAll(files, { jobs, timeout, env, alone: (file) => values.serial.some((text) => file.includes(text)) });
}

interface Settings {
  jobs: number;
  timeout: number;
  env: NodeJS.ProcessEnv;
  alone: (file: string) => boolean;
}

async function runAll(files: readonly string[], { jobs, timeout, env, alone }: Settings): Promise<void> {
  const start = performance.now();
  const width = Math.max(...files.map((file) => file.length));
  let passed = 0,
    failed = 0;
  const broken: string[] = [];
  const notRun: string[] = [];

  const runOne = async (file: string): Promise<void> => {
    const outcome = await runFile(file, timeout, env);
    passed += outcome.passed;
    failed += outcome.failed;
    notRun.push(...outcome.notRun);
    const good = outcome.failed === 0;
    if (!good) broken.push(file);
    const counts = `${outcome.passed} passed${good ? '' : `, ${outcome.failed} failed`}`;
    console.log(
      `${good ? ' ok ' : 'FAIL'}  ${file.padEnd(width)}  ${outcome.seconds.toFixed(1).padStart(6)} s  ${counts}`,
    );
    if (!good) {
      process.stdout.write(`${outcome.output.trimEnd().replace(/^/gm, '    ')}\n`);
      for (const problem of outcome.problems) console.log(`    ${file}: ${problem}`);
    }
  };

  const queue = files
    .filter((file) => !alone(file))
    .sort((a, b) => Number(FIRST.includes(b)) - Number(FIRST.includes(a)));
  await Promise.all(
    Array.from({ length: Math.min(jobs, queue.length) }, async () => {
      for (let file = queue.shift(); file !== undefined; file = queue.shift()) await runOne(file);
    }),
  );
  for (const file of files.filter(alone)) await runOne(file);

  console.log('');
  for (const test of notRun) console.log(`not run: ${test}`);
  for (const file of broken) console.log(`failed: ${file}`);
  console.log(`${files.length} files, ${((performance.now() - start) / 1000).toFixed(1)} s`);
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

function runFile(file: string, timeout: number, env: NodeJS.ProcessEnv): Promise<Outcome> {
  return new Promise((done) => {
    const start = performance.now();
    const quick = file.startsWith('test/golden/') ? {} : QUICK_COMPILER;
    const child = spawn(process.execPath, ['--import', 'tsx', file], {
      cwd: PROJECT,
      env: { ...quick, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '',
      stopped: string | undefined,
      grace: NodeJS.Timeout | undefined;
    const stop = (reason: string): void => {
      stopped = reason;
      child.kill('SIGKILL');
    };
    const limit = setTimeout(() => stop(`not done after ${timeout / 1000} s, killed`), timeout);
    const take = (chunk: string): void => {
      output += chunk;
      if (summaries(output).length > 0) {
        clearTimeout(grace);
        grace = setTimeout(
          () => stop('the tests are done but the process does not exit: something keeps the adapter open'),
          EXIT_GRACE_MS,
        );
      }
    };
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', take);
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      clearTimeout(grace);
      done({ ...judge(output, code, signal, stopped), output, seconds: (performance.now() - start) / 1000 });
    });
  });
}

function judge(
  output: string,
  code: number | null,
  signal: NodeJS.Signals | null,
  stopped: string | undefined,
): Omit<Outcome, 'output' | 'seconds'> {
  const found = summaries(output);
  const sum = (key: 'total' | 'passed' | 'skipped'): number => found.reduce((so, summary) => so + summary[key], 0);
  const notes = [...stripVTControlCharacters(output).matchAll(/^not run( in part)?: (.+)\r?$/gm)];
  // To uvu a test that returns has passed.
  const left = notes.filter(([, inPart]) => inPart === undefined).length;
  const passed = sum('passed') - left,
    skipped = sum('skipped');
  // Counted from the total: tests that never ran, because a hook threw, appear nowhere as failures.
  let failed = sum('total') - passed - left + skipped;
  const problems: string[] = [];
  if (skipped > 0) problems.push(`${skipped} tests were skipped, which counts as failed`);
  else if (code === 0 && failed > 0)
    problems.push('tests did not run: a before or after hook threw, of which uvu shows nothing');

  const end = stopped ?? (signal !== null ? `ended by ${signal}` : undefined);
  if (end !== undefined) problems.push(end);
  else if (found.length === 0) problems.push(`no test ran (exit status ${code})`);
  else if (passed + failed + left === 0) problems.push('holds no test');
  else if (code !== 0 && failed === 0) problems.push(`exit status ${code} after all tests passed`);
  if (end !== undefined || (problems.length > 0 && failed === 0)) failed++;

  return { passed, failed, problems, notRun: notes.map(([, , test]) => test) };
}

/** The blocks with which uvu ends: one a process, more where a file runs others. */
function summaries(output: string): { total: number; passed: number; skipped: number }[] {
  const blocks = stripVTControlCharacters(output).matchAll(
    /^ {2}Total: +(\d+)\r?\n {2}Passed: +(\d+)\r?\n {2}Skipped: +(\d+)\r?\n {2}Duration:/gm,
  );
  return [...blocks].map(([, total, passed, skipped]) => ({
    total: Number(total),
    passed: Number(passed),
    skipped: Number(skipped),
  }));
}

function testFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith('.test.ts') ? [path] : [];
  });
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is ${text}, expected a positive whole number.`);
  return value;
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
