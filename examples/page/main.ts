// A page that fits a curve to noisy points on the reader's GPU, and draws it while it learns.
//
//   npx vite examples/page

import { Adam, Generator, Linear, Module, mseLoss, noGrad, openDevice, scope, tensor, type Tensor } from 'dis-webgpu';

class Net extends Module {
  readonly hidden: Linear;
  readonly out: Linear;
  constructor(random: Generator) {
    super();
    this.hidden = new Linear(random, 1, 64);
    this.out = new Linear(random, 64, 1);
  }
  forward(x: Tensor): Tensor {
    return this.out.forward(this.hidden.forward(x.mul(6)).tanh());
  }
}

const STEPS = 300;
const points = Array.from({ length: 128 }, (_, i) => {
  const x = i / 64 - 1;
  return [x, 0.6 * Math.sin(5 * x) + 0.15 * (Math.random() - 0.5)];
});

const status = document.querySelector('[role=status]')!;
const canvas = document.querySelector('canvas')!;
const pen = canvas.getContext('2d')!;

/** Draws the points, and the curve through the network's values at them. */
function draw(values: ArrayLike<number>): void {
  const { width, height } = canvas;
  const at = (x: number, y: number): [number, number] => [((x + 1) / 2) * width, (0.5 - y / 2) * height];
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = '#888';
  for (const [x, y] of points) pen.fillRect(...at(x, y), 6, 6);
  pen.strokeStyle = '#e4572e';
  pen.lineWidth = 5;
  pen.beginPath();
  points.forEach(([x], i) => pen.lineTo(...at(x, values[i])));
  pen.stroke();
}

async function fit(): Promise<void> {
  using device = await openDevice();
  const net = new Net(new Generator(device, 0));
  const [xs, ys] = [0, 1].map((column) =>
    tensor(
      device,
      points.map((point) => [point[column]]),
    ),
  );
  const optimizer = new Adam(net.parameters(), { lr: 0.01 });
  for (let step = 1; step <= STEPS; step++) {
    const loss = scope(() => {
      const error = mseLoss(net.forward(xs), ys);
      error.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return error.detach();
    });
    if (step % 20 === 0) {
      using values = noGrad(() => scope(() => net.forward(xs)));
      draw(await values.data());
      status.textContent = `Step ${step} of ${STEPS}, loss ${(await loss.item()).toPrecision(3)}`;
    }
    loss.dispose();
  }
}

fit().catch((error: Error) => (status.textContent = error.message));
