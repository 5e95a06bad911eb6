// The page of the browser tests: runs the cases one after another, writes what became of them, and leaves it for run.ts.

import { adapterKey, openDevice } from '../../core/index.ts';
import { cases, runCase } from './cases.ts';

export interface CaseResult {
  name: string;
  /** What the case returned, as JSON. */
  value?: string;
  /** Message and stack of what it threw. */
  error?: string;
}

declare global {
  interface Window {
    /** Set when all cases are done. */
    results?: CaseResult[];
  }
}

const log = document.querySelector('#log')!;
const results: CaseResult[] = [];
const device = await openDevice();
log.append(`${adapterKey(device)}\n`);
for (const one of cases) {
  const { name } = one;
  const result: CaseResult = { name };
  try {
    result.value = await runCase(one, device);
  } catch (error) {
    result.error = error instanceof Error ? `${error.message}\n${error.stack ?? ''}` : String(error);
  }
  results.push(result);
  log.append(`${result.error === undefined ? ' ok ' : 'FAIL'}  ${name}\n${result.error ?? ''}`);
}
window.results = results;
