// However many ranks train, they compute the same.

import * as assert from 'uvu/assert';
import { assertNear, assertSame, train, type Scene } from './support.ts';

let known: readonly number[] | undefined;
const alone = (): readonly number[] => (known ??= train(1)[0].losses);

export const same: readonly Scene[] = [
  {
    name: '2 ranks have the same parameters, bit for bit, and the losses of one',
    run() {
      const ended = train(2);
      assertSame(ended);
      assert.is(ended[0].transport, 'shared memory');
      assertNear(ended[0].losses, alone());
    },
  },
  {
    name: '4 ranks likewise',
    run() {
      const ended = train(4);
      assertSame(ended);
      assertNear(ended[0].losses, alone());
    },
  },
  {
    name: 'by messages, as between machines, the bits are those of shared memory',
    run() {
      for (const ranks of [2, 4]) {
        const short = { steps: 5, microBatches: 2 };
        const [shared, sent] = [train(ranks, short), train(ranks, { ...short, messages: true })];
        assertSame([...shared, ...sent]);
        assert.is(sent[0].transport, 'messages');
      }
    },
  },
];
