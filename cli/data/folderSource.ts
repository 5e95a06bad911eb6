// The pictures of a folder.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EDM_LABELS, readEdmLabels } from './edmLabels.ts';
import { listImages, requireFolder } from './listImages.ts';
import type { PictureSource } from './pictureSource.ts';

/** The pictures below a folder, with the classes of its dataset.json where it has one. */
export function folderSource(root: string): PictureSource {
  return {
    root,
    async list(patience) {
      await requireFolder('imageFolder', root);
      const listing = await listImages(root, patience);
      const path = join(root, EDM_LABELS);
      const edm = await patience.read(path, () => readEdmLabels(path));
      return edm ? { ...listing, edm, ignored: listing.ignored - 1 } : listing;
    },
    read: ({ path }) => readFile(path),
  };
}
