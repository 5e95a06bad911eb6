// TensorFlow.js on its WebGPU backend. It has no compiler: every operation is a dispatch.

import { readFileSync } from 'node:fs';
import { browserEnvironment } from './environment.ts';
import { peerUrl, TFJS_URL } from './install.ts';

export async function open() {
  const environment = await browserEnvironment();
  const tf = await import(TFJS_URL);
  await tf.setBackend('webgpu');
  await tf.ready();
  // Small tensors would be computed on the CPU otherwise.
  tf.env().set('WEBGPU_CPU_FORWARD', false);

  const finish = async () => {
    const backend = tf.backend();
    if (backend.commandEncoder) {
      backend.endComputePassEncoder();
      backend.submitQueue();
    }
    await environment.wait();
  };
  const tensors = (given) =>
    Object.fromEntries(Object.entries(given).map(([key, { data, shape }]) => [key, tf.tensor(data, shape)]));

  /** `compute` gives a tensor or several. */
  const work = (compute) => (given) => {
    const inputs = tensors(given);
    return {
      async run(count) {
        for (let i = 0; i < count; i++) tf.dispose(tf.tidy(() => compute(inputs)));
        await finish();
      },
      async result() {
        const out = [tf.tidy(() => compute(inputs))].flat();
        const values = await Promise.all(out.map((t) => t.data()));
        tf.dispose(out);
        return values;
      },
      dispose: () => tf.dispose(Object.values(inputs)),
    };
  };
  const gradientWork = (names, compute) =>
    work((inputs) => {
      const gradients = tf.grads((...of) =>
        tf.sum(tf.mul(compute(Object.fromEntries(names.map((name, i) => [name, of[i]]))), inputs.g)),
      );
      return gradients(names.map((name) => inputs[name]));
    });

  const gate = ({ x, y, z }) => tf.add(tf.mul(tf.mul(x, tf.sigmoid(x)), y), z);
  const norm = ({ x, weight, bias }) => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    return tf.add(tf.mul(tf.mul(centred, tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), 1e-5))), weight), bias);
  };
  // A sum of shifted products is faster than depthwiseConv2d, and the only one with a gradient on this backend.
  const conv = ({ x, w }) => {
    const [batch, tokens, channels] = x.shape;
    const padded = tf.pad(x, [
      [0, 0],
      [3, 0],
      [0, 0],
    ]);
    let sum = null;
    for (let k = 0; k < 4; k++) {
      const term = tf.mul(tf.slice(padded, [0, k, 0], [batch, tokens, channels]), tf.slice(w, [k, 0], [1, channels]));
      sum = sum ? tf.add(sum, term) : term;
    }
    return sum;
  };
  // A loop over tokens, as one writes it; doubling steps as in jax.mjs take longer here.
  const scan = ({ u, delta, A, B, C }) => {
    const step = tf.softplus(delta);
    const decays = tf.unstack(tf.exp(tf.mul(tf.expandDims(step, 3), A)), 1);
    const inputs = tf.unstack(tf.mul(tf.expandDims(tf.mul(step, u), 3), tf.expandDims(B, 2)), 1);
    const readers = tf.unstack(tf.expandDims(C, 2), 1);
    let state = null;
    const out = decays.map((decay, t) => {
      state = state ? tf.add(tf.mul(decay, state), inputs[t]) : inputs[t];
      return tf.sum(tf.mul(state, readers[t]), 2);
    });
    return tf.add(tf.stack(out, 1), u);
  };

  const perceptron = (given) => {
    const { x, t, w1, w2, w3 } = tensors(given);
    const layers = [w1, w2, w3].map((w) => [tf.variable(w), tf.variable(tf.zeros([w.shape[1]]))]);
    const optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
    const loss = () => {
      const out = layers.reduce((h, [w, b], i) => {
        const y = tf.add(tf.matMul(h, w), b);
        return i < 2 ? tf.relu(y) : y;
      }, x);
      return tf.mean(tf.square(tf.sub(out, t)));
    };
    return {
      async run(count) {
        for (let i = 0; i < count; i++) optimizer.minimize(loss);
        await finish();
      },
      async result() {
        for (let i = 0; i < 3; i++) optimizer.minimize(loss);
        return Promise.all(layers.flat().map((p) => p.data()));
      },
      dispose: () => tf.dispose([x, t, w1, w2, w3, ...layers.flat()]),
    };
  };

  return {
    version: JSON.parse(readFileSync(new URL(peerUrl('@tensorflow/tfjs-core/package.json')), 'utf8')).version,
    adapter: environment.adapter,
    works: {
      matmul: work(({ a, b }) => tf.matMul(a, b)),
      softmax: work(({ x }) => tf.softmax(x)),
      gate: work(gate),
      gateGrad: gradientWork(['x', 'y', 'z'], gate),
      conv: work(conv),
      convGrad: gradientWork(['x', 'w'], conv),
      layerNorm: work(norm),
      layerNormGrad: gradientWork(['x', 'weight', 'bias'], norm),
      mlp: perceptron,
      scan: work(scan),
      scanGrad: gradientWork(['u', 'delta', 'A', 'B', 'C'], scan),
      adds: work(({ x, b }) => {
        let y = x;
        for (let i = 0; i < 1000; i++) y = tf.add(y, b);
        return y;
      }),
    },
    close: () => environment.close(),
  };
}
