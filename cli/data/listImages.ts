// The image files below a folder, in an order that is the same on every machine.
import type { Stats } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { extname, join, relative } from 'node:path';
import { FileError, errorCode } from '../files.ts';
import type { Patience } from './patience.ts';
import type { ListedImage, Listing } from './pictureSource.ts';

const extensions = new Set(['.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.avif', '.tif', '.tiff', '.gif']);

/** Whether a file is a picture by its name. */
export const isImageName = (name: string): boolean => extensions.has(extname(name).toLowerCase());

export const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Lists the images below `root`, links followed, circles left out. */
export async function listImages(root: string, patience: Patience): Promise<Listing> {
  const images: ListedImage[] = [],
    folders = new Set<string>(),
    dangling: string[] = [];
  let ignored = 0;
  const seen = new Set<string>();
  const walk = async (folder: string, prefix: string): Promise<void> => {
    const real = await patience.read(folder, () => realpath(folder));
    // Links may form a circle.
    if (seen.has(real)) return;
    seen.add(real);
    for (const entry of (await patience.read(folder, () => readdir(folder))).sort(byCodeUnit)) {
      const path = join(folder, entry);
      const isImage = isImageName(entry);
      // Dot files are the system's notes (.DS_Store, ._photo.jpg), not pictures.
      const stats = entry.startsWith('.') ? undefined : await patience.read(path, () => statIfThere(path));
      if (stats?.isDirectory()) {
        if (prefix === '') folders.add(entry.normalize('NFC'));
        await walk(path, `${prefix}${entry}/`);
      } else if (stats?.isFile() && isImage) images.push({ path, name: (prefix + entry).normalize('NFC'), stats });
      else if (stats === undefined && isImage && !entry.startsWith('.')) dangling.push(path);
      else ignored++;
    }
  };
  await walk(root, '');
  // One order on every machine, whatever the file system's, the locale's and the form in which it stores accents.
  images.sort((a, b) => byCodeUnit(a.name, b.name) || byCodeUnit(a.path, b.path));
  const unique = images.map((image, i) =>
    // Some file systems hold two files whose names differ in nothing but that form.
    i > 0 && image.name === images[i - 1].name ? { ...image, name: relative(root, image.path) } : image,
  );
  const unusable = dangling.map((path) => ({ path, reason: 'it is a link that leads nowhere' }));
  return { images: unique, folders: [...folders].sort(byCodeUnit), unusable, ignored };
}

/** Undefined for a link that leads nowhere or a file removed meanwhile. */
async function statIfThere(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ELOOP') return undefined;
    throw error;
  }
}

/** Fails with a sentence where `path` is not a folder that can be listed. */
export async function requireFolder(op: string, path: string): Promise<void> {
  let info: Stats;
  try {
    info = await stat(path);
  } catch (error) {
    const code = errorCode(error);
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be opened (${code ?? String(error)})`;
    throw new FileError(op, `${path} ${why}`, { path, expected: 'a folder', remedy: 'check the path', cause: error });
  }
  if (!info.isDirectory())
    throw new FileError(op, `${path} is a file`, {
      path,
      expected: 'a folder or a ZIP archive',
      remedy: 'give the folder that holds it',
    });
}
