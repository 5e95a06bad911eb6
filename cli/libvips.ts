// libvips, below sharp, keeps its complaints in one buffer for the whole process: of two files that fail at the same
// time, one may get the other's reason, and a good file's remarks stay for whoever fails next. So what fails is
// repeated alone, for its own reason.

interface Waiting {
  readonly alone: boolean;
  readonly start: () => void;
}

const waiting: Waiting[] = [];
let running = 0;
let exclusive = false;

const free = (alone: boolean): boolean => !exclusive && (!alone || running === 0);

async function turn<T>(alone: boolean, task: () => Promise<T>): Promise<T> {
  if (waiting.length > 0 || !free(alone)) await new Promise<void>((start) => waiting.push({ alone, start }));
  else begin(alone);
  try {
    return await task();
  } finally {
    running--;
    if (alone) exclusive = false;
    // In the order of their arrival, so that a repetition doesn't wait for ever.
    for (let next = waiting.at(0); next && free(next.alone); next = waiting.at(0)) {
      waiting.shift();
      begin(next.alone);
      next.start();
    }
  }
}

function begin(alone: boolean): void {
  running++;
  if (alone) exclusive = true;
}

/**
 * Runs an operation of sharp beside others. One that fails is repeated while no other runs, and fails with the reason
 * it has then, which is the same in each run; one that failed for want of memory may succeed.
 */
export async function withVips<T>(task: () => Promise<T>): Promise<T> {
  try {
    return await turn(false, task);
  } catch {
    return turn(true, async () => {
      // A failure takes everything out of the buffer, so that the next one finds its own words alone.
      await task().catch(() => undefined);
      return task();
    });
  }
}
