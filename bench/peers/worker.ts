// A process of one engine: prepares a work, gives its results for the check, and times it when asked.

import { serve } from '../channel.ts';
import { ENGINES, type Engine, type EngineName, type Given, type Ready } from './engine.ts';
import { digestOf, valuesOf, WORKS, type Digest, type PeerWork } from './works.ts';

export type Request =
  | { readonly ask: 'engine' }
  | { readonly ask: 'prepare'; readonly id: string }
  | { readonly ask: 'time' }
  | { readonly ask: 'dispose' };
export type Prepared = { readonly digests: Digest[]; readonly first: number } | null;

/** Seconds that a batch should last, and how many iterations it may have: their results are all alive at its end. */
const BATCH = 0.1,
  MOST = 16;

const now = (): number => performance.now() / 1000;

const name = process.argv[2] as EngineName;
const { open } = (await import(ENGINES[name])) as { open(): Promise<Engine> };
const engine = await open();
let ready: Ready | null = null;
let count = 1;

function givenOf(work: PeerWork): Given {
  return Object.fromEntries(
    Object.entries(work.inputs).map(([key, input], i) => [key, { data: valuesOf(input, i), shape: input.shape }]),
  );
}

async function prepare(id: string): Promise<Prepared> {
  const work = WORKS.find((w) => w.id === id)!;
  const make = engine.works[work.kind];
  if (!make) return null;
  const begun = now();
  ready = await make(givenOf(work));
  const digests = (await ready.result()).map(digestOf);
  const first = now() - begun;
  await ready.run(1);
  const again = now();
  await ready.run(1);
  count = Math.max(1, Math.min(MOST, Math.ceil(BATCH / (now() - again))));
  await ready.run(count);
  return { digests, first };
}

async function time(): Promise<number> {
  const begun = now();
  await ready!.run(count);
  return (now() - begun) / count;
}

await serve(async (request: Request): Promise<unknown> => {
  switch (request.ask) {
    case 'engine':
      return { version: engine.version, adapter: engine.adapter };
    case 'prepare':
      return prepare(request.id);
    case 'time':
      return time();
    case 'dispose':
      ready?.dispose();
      ready = null;
      return null;
  }
});
engine.close();
process.exit(0);
