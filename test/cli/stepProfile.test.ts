// `train --profile`: what is measured, and what is said where nothing can be.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { describeFailure, EXIT } from '../../cli/errors.ts';
import { StepProfile } from '../../cli/stepProfile.ts';
import { openDevice } from '../../core/index.ts';
import { succeed, withFolder } from './support.ts';

const test = suite('train --profile');

const TINY = ['--data', 'shapes', '--model', 'DiS-N/4', '--image-size', '8', '--embed-dim', '16', '--depth', '2'];
const train = (...more: readonly string[]): readonly string[] => [
  'train',
  ...TINY,
  '--d-state',
  '4',
  '--batch',
  '2',
  '--sample-every',
  '0',
  '--progress',
  'lines',
  ...more,
];

interface Event {
  readonly name: string;
  readonly ph: string;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
}

test('a trace of the kernels of three steps, and a table of the same', () =>
  withFolder(async (folder) => {
    const { out } = await succeed(
      folder,
      ...train('--out', 'run', '--steps', '8', '--checkpoint-every', '5', '--profile', 'trace.json'),
    );
    const { traceEvents } = JSON.parse(await readFile(join(folder, 'trace.json'), 'utf8')) as { traceEvents: Event[] };
    const [gpu, host] = [1, 2].map((tid) => traceEvents.filter((event) => event.ph === 'X' && event.tid === tid));
    assert.is(gpu.length, host.length);
    assert.ok(gpu.every(({ dur, ts }) => dur >= 0 && ts >= 0) && gpu.some(({ dur }) => dur > 0));
    const rows = new Map<string, number>();
    for (const { name } of gpu) rows.set(name, (rows.get(name) ?? 0) + 1);
    assert.is(rows.get('adamWAdvance'), 3);
    for (const [name, count] of rows) {
      assert.is(count % 3, 0, `${name} in three equal steps`);
      assert.match(out, new RegExp(`^${name.replaceAll('.', '\\.')} +${count} +[\\d.]+ +[\\d.]+ % +[\\d.]+$`, 'm'));
    }
    assert.match(out, new RegExp(`^all +${gpu.length} `, 'm'));
    assert.match(out, /^Steps 4 to 6, each dispatch a pass of its own/m);
    assert.match(out, /^The trace is in trace\.json/m);

    // A run that goes on measures the same way; one that ends before, and a place that cannot be written, are told.
    const resumed = await succeed(
      folder,
      'train',
      '--resume',
      'run',
      '--steps',
      '10',
      '--progress',
      'lines',
      '--profile',
      'none.json',
    );
    assert.match(resumed.out, /^No profile: the run ended before step 14\.$/m);
    const refused = await succeed(
      folder,
      'train',
      '--resume',
      'run',
      '--steps',
      '17',
      '--progress',
      'lines',
      '--profile',
      'no/such/trace.json',
    );
    assert.match(refused.out, /^The trace could not be written: .*trace\.json.*$/m);
    assert.match(refused.out, /^Steps 14 to 16,/m);
  }));

test('without timestamp queries one sentence says so, before the run begins', async () => {
  const device = await openDevice({ without: ['timestamp-query'] });
  try {
    new StepProfile(device, 'trace.json', 0);
    assert.unreachable();
  } catch (error) {
    assert.equal(describeFailure(error), {
      message:
        'The adapter has no timestamp queries, which --profile needs; leave it out; the progress shows how long whole steps take.',
      status: EXIT.gpu,
      unexpected: false,
    });
  } finally {
    device.destroy();
  }
});

test.run();
