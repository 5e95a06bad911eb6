// onnxruntime-web on its WebGPU provider: inference only, so the forward passes.

import { readFileSync } from 'node:fs';
import { browserEnvironment } from './environment.ts';
import { peerUrl } from './install.ts';
import { onnxModel } from './onnx.ts';

export async function open() {
  const environment = await browserEnvironment();
  const ort = await import(peerUrl('onnxruntime-web/dist/ort.all.mjs'));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = peerUrl('onnxruntime-web/dist/');
  ort.env.logLevel = 'error';

  /** `nodes` computes the output `out` from the inputs by name; `after` arranges the result as others have it. */
  const work =
    (nodes, outShape = (given) => given.x.shape, before = (given) => given, after = (values) => values) =>
    async (plain) => {
      const given = before(plain);
      const shapes = Object.fromEntries(Object.entries(given).map(([key, { shape }]) => [key, shape]));
      const model = onnxModel(shapes, nodes, { out: outShape(given) });
      const session = await ort.InferenceSession.create(model, {
        executionProviders: ['webgpu'],
        preferredOutputLocation: 'gpu-buffer',
      });
      const device = await ort.env.webgpu.device;
      const buffers = [];
      const feeds = Object.fromEntries(
        Object.entries(given).map(([key, { data, shape }]) => {
          const buffer = device.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage: 0x80 | 0x4 | 0x8 });
          device.queue.writeBuffer(buffer, 0, data);
          buffers.push(buffer);
          return [key, ort.Tensor.fromGpuBuffer(buffer, { dataType: 'float32', dims: [...shape] })];
        }),
      );
      return {
        async run(count) {
          for (let i = 0; i < count; i++) (await session.run(feeds)).out.dispose();
          await device.queue.onSubmittedWorkDone();
        },
        async result() {
          const { out } = await session.run(feeds);
          return [after(await out.getData(), given)];
        },
        async dispose() {
          await session.release();
          for (const buffer of buffers) buffer.destroy();
        },
      };
    };

  /** Its convolution wants channels before tokens, and weights as (channels, 1, width). */
  const swapped = ({ data, shape: [batch, a, b] }) => {
    const out = new Float32Array(data.length);
    for (let n = 0; n < batch; n++)
      for (let i = 0; i < a; i++) for (let j = 0; j < b; j++) out[(n * b + j) * a + i] = data[(n * a + i) * b + j];
    return { data: out, shape: [batch, b, a] };
  };
  const convInputs = ({ x, w }) => {
    const weight = swapped({ data: w.data, shape: [1, ...w.shape] });
    return { x: swapped(x), w: { data: weight.data, shape: [w.shape[1], 1, w.shape[0]] } };
  };

  return {
    version: JSON.parse(readFileSync(new URL(peerUrl('onnxruntime-web/package.json')), 'utf8')).version,
    adapter: environment.adapter,
    works: {
      matmul: work([['MatMul', ['a', 'b'], 'out']], ({ a, b }) => [a.shape[0], b.shape[1]]),
      softmax: work([['Softmax', ['x'], 'out', { axis: -1 }]]),
      gate: work([
        ['Sigmoid', ['x'], 's'],
        ['Mul', ['x', 's'], 'silu'],
        ['Mul', ['silu', 'y'], 'gated'],
        ['Add', ['gated', 'z'], 'out'],
      ]),
      layerNorm: work([['LayerNormalization', ['x', 'weight', 'bias'], 'out', { axis: -1, epsilon: 1e-5 }]]),
      conv: work(
        [['Conv', ['x', 'w'], 'out', { group: 736, pads: [3, 0], dilations: [1], strides: [1], kernel_shape: [4] }]],
        ({ x }) => x.shape,
        convInputs,
        (data, { x }) => swapped({ data, shape: x.shape }).data,
      ),
    },
    close: () => environment.close(),
  };
}
