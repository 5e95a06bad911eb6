// Every public name says what it is: what the entry points export, and methods and fields of exported classes.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { publicNames } from '../../docs/site/publicNames.ts';

const test = suite('docstrings');
const names = publicNames();

test('the entry points are read', () => {
  assert.ok(names.length > 1000, `${names.length} names`);
  for (const name of ['Tensor', 'Tensor.add', 'openDevice', 'Linear.forward', 'Trainer.run', 'TrainerOptions', 'init'])
    assert.ok(
      names.some((each) => each.name === name),
      name,
    );
});

test('every public name has a docstring', () => {
  const bare = names.filter(({ documented }) => !documented).map(({ name, at }) => `${name} (${at})`);
  assert.equal(bare, []);
});

test.run();
