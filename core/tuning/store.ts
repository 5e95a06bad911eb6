// Keeps measurements in the browser: one record an adapter in an IndexedDB database of the page's origin. Elsewhere,
// keep the JSON of `exportTuning` in a file.

import { EngineError } from '../errors.ts';
import type { Device } from '../gpu/device.ts';
import { adapterKey, tuningOf } from './tuning.ts';

const DATABASE = 'dis-tuning',
  STORE = 'adapters';

/**
 * Imports what `saveTuning` kept for this adapter.
 *
 * @returns the number of entries; 0 where there is no IndexedDB
 */
export async function loadTuning(device: Device): Promise<number> {
  const data = await withStore('readonly', (store) => store.get(adapterKey(device)));
  return tuningOf(device).importTuning(data);
}

/**
 * Keeps what was measured for the next visit.
 *
 * @returns whether it was kept: not without IndexedDB, nor where the browser refuses storage
 */
export async function saveTuning(device: Device): Promise<boolean> {
  return (
    (await withStore('readwrite', (store) => store.put(tuningOf(device).exportTuning(), adapterKey(device)))) !==
    undefined
  );
}

/** The result of one request; undefined where there is no storage or it is refused, as a page works without. */
async function withStore<T>(
  mode: IDBTransactionMode,
  act: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T | undefined> {
  const factory = (globalThis as { indexedDB?: IDBFactory }).indexedDB;
  if (!factory) return undefined;
  try {
    const opening = factory.open(DATABASE, 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore(STORE);
    };
    const database = await settled(opening);
    try {
      return await settled(act(database.transaction(STORE, mode).objectStore(STORE)));
    } finally {
      database.close();
    }
  } catch {
    return undefined;
  }
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      resolve(request.result);
    };
    request.onerror = () => {
      reject(request.error ?? new EngineError('tuningStore', 'IndexedDB failed'));
    };
  });
}
