// A small network on data of one's own: points inside of a circle or outside.
//
//   npx tsx examples/own-data.ts

import { Adam, crossEntropy, Generator, Linear, Module, openDevice, scope, tensor, type Tensor } from 'dis-webgpu';

class Net extends Module {
  readonly hidden: Linear;
  readonly out: Linear;
  constructor(random: Generator) {
    super();
    this.hidden = new Linear(random, 2, 32);
    this.out = new Linear(random, 32, 2);
  }
  forward(x: Tensor): Tensor {
    return this.out.forward(this.hidden.forward(x).relu());
  }
}

const points = Array.from({ length: 512 }, (_, i) => [Math.sin(i * 1.7) * 1.5, Math.cos(i * 2.3) * 1.5]);
const inside = points.map(([x, y]) => Number(x * x + y * y < 1));

const device = await openDevice();
const net = new Net(new Generator(device, 0));
const [x, labels] = [tensor(device, points), tensor(device, inside, { dtype: 'i32' })];
const optimizer = new Adam(net.parameters(), { lr: 0.02 });
for (let step = 0; step < 200; step++) {
  scope(() => {
    crossEntropy(net.forward(x), labels).backward();
    optimizer.step();
    optimizer.zeroGrad();
  });
}
const right = scope(() => net.forward(x).argmax(1).eq(labels).cast('f32').mean());
console.log(`${(100 * (await right.item())).toFixed(1)} % are right`);
device.destroy();
