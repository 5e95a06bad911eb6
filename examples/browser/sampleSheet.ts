// The sheet of samples: a column for each class, headed by its name and a picture from the data, and a slider through the previews.

import { batchToPixels } from 'dis-webgpu/models';
import { dataset, IMAGE_SIZE } from './session.ts';

/** Samples of a step. */
export interface Preview {
  readonly step: number;
  /** Row by row, a class beside the other, in [-1, 1]. */
  readonly images: Float32Array;
  readonly caption: string;
}

export class SampleSheet {
  /** Samples of each class. */
  readonly rows = 4;
  private readonly root: HTMLElement;
  private readonly slider: HTMLInputElement;
  private readonly caption: HTMLElement;
  private cells: HTMLCanvasElement[] = [];
  private previews: Preview[] = [];

  constructor(root: HTMLElement, slider: HTMLInputElement, caption: HTMLElement) {
    this.root = root;
    this.slider = slider;
    this.caption = caption;
    slider.addEventListener('input', () => this.select(slider.valueAsNumber));
  }

  /** An empty sheet. */
  async clear(): Promise<void> {
    const { classNames, numClasses } = dataset;
    const heads = classNames.map((name) => {
      const head = document.createElement('div');
      head.className = 'class-name';
      head.textContent = name;
      return head;
    });
    const examples = classNames.map((name) => cell('example', `a ${name} of the data set`));
    this.cells = Array.from({ length: this.rows * numClasses }, (_, i) =>
      cell('sample', `sample of ${classNames[i % numClasses]}`),
    );
    this.root.replaceChildren(...heads, ...examples, ...this.cells);
    this.previews = [];
    this.slider.hidden = true;
    this.caption.textContent =
      'The first row is from the data set. Below it, the model’s own drawings appear as it learns.';
    // The first drawing of each class.
    for (let found = 0, i = 0; found < numClasses; i++) {
      const { pixels, label } = await dataset.item(i);
      if (examples[label].dataset.filled) continue;
      examples[label].dataset.filled = 'yes';
      // Drawn sets have 8 bits.
      if (pixels instanceof Uint8Array) paint(examples[label], pixels);
      found++;
    }
  }

  /** Shows images that are not done yet. */
  show(images: Float32Array): void {
    const pictures = batchToPixels({
      data: images,
      shape: [this.cells.length, dataset.channels, IMAGE_SIZE, IMAGE_SIZE],
    });
    pictures.forEach(({ data }, i) => paint(this.cells[i], data));
  }

  /** Keeps a preview and shows it. */
  add(preview: Preview): void {
    this.previews.push(preview);
    this.slider.max = String(this.previews.length - 1);
    this.slider.hidden = this.previews.length < 2;
    this.slider.value = this.slider.max;
    this.select(this.previews.length - 1);
  }

  private select(index: number): void {
    const { images, caption, step } = this.previews[index];
    this.show(images);
    this.caption.textContent = caption;
    this.slider.ariaValueText = `step ${step}`;
  }
}

function cell(kind: string, label: string): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = IMAGE_SIZE;
  canvas.className = kind;
  canvas.role = 'img';
  canvas.ariaLabel = label;
  return canvas;
}

/** Puts pixels, three bytes each, on a canvas. */
function paint(canvas: HTMLCanvasElement, rgb: Uint8Array): void {
  const image = new ImageData(IMAGE_SIZE, IMAGE_SIZE);
  for (let i = 0; i < IMAGE_SIZE ** 2; i++) image.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
  canvas.getContext('2d')!.putImageData(image, 0, 0);
}
