// jax-js on its WebGPU device, everything under jit but the dependent adds.

import { readFileSync } from 'node:fs';
import { browserEnvironment } from './environment.ts';
import { peerUrl } from './install.ts';

export async function open() {
  const environment = await browserEnvironment();
  const jax = await import('@jax-js/jax');
  const { grad, jit, nn, numpy: np } = jax;
  await jax.init('webgpu');
  jax.defaultDevice('webgpu');

  const array = ({ data, shape }) => np.array(data).reshape([...shape]);
  const finish = async (out) => {
    await jax.blockUntilReady(out.map((t) => t.ref)).then((done) => done.forEach((t) => t.dispose()));
    await environment.wait();
    for (const t of out) t.dispose();
  };

  /** `compute` takes its inputs in order, each of which it uses up, and gives an array or several. */
  const work =
    (compute, compiled = true) =>
    (given) => {
      const inputs = Object.values(given).map(array);
      const run = compiled ? jit(compute) : compute;
      const once = () => [run(...inputs.map((t) => t.ref))].flat();
      return {
        async run(count) {
          const out = [];
          for (let i = 0; i < count; i++) out.push(...once());
          await finish(out);
        },
        result: () => Promise.all(once().map((t) => t.data())),
        dispose: () => inputs.forEach((t) => t.dispose()),
      };
    };
  /** The gradient `g` is the last input. */
  const gradientWork = (compute) => (given) => {
    const count = Object.keys(given).length - 1;
    return work(
      grad(
        (...all) =>
          compute(...all.slice(0, -1))
            .mul(all[count])
            .sum(),
        { argnums: Array.from({ length: count }, (_, i) => i) },
      ),
    )(given);
  };

  const gate = (x, y, z) => x.ref.mul(nn.sigmoid(x)).mul(y).add(z);
  const norm = (x, weight, bias) => {
    const centred = x.ref.sub(np.mean(x, -1, { keepdims: true }));
    const variance = np.mean(np.square(centred.ref), -1, { keepdims: true });
    return centred
      .div(np.sqrt(variance.add(1e-5)))
      .mul(weight)
      .add(bias);
  };
  const conv = (x, w) => {
    const tokens = x.shape[1];
    const padded = np.pad(x, [
      [0, 0],
      [3, 0],
      [0, 0],
    ]);
    let sum = null;
    for (let k = 0; k < 4; k++) {
      const term = padded.ref.slice([], [k, k + tokens], []).mul(w.ref.slice([k, k + 1], []));
      sum = sum ? sum.add(term) : term;
    }
    padded.dispose();
    w.dispose();
    return sum;
  };
  // Doubling steps: a loop over tokens makes a program of thousands of kernels.
  const scan = (u, delta, A, B, C) => {
    const [batch, tokens, channels] = u.shape;
    const states = A.shape[1];
    const before = (x, s) =>
      np.pad(x.slice([], [0, tokens - s], [], []), [
        [0, 0],
        [s, 0],
        [0, 0],
        [0, 0],
      ]);
    const step = nn.softplus(delta);
    let a = np.exp(step.ref.reshape([batch, tokens, channels, 1]).mul(A));
    let b = step
      .mul(u.ref)
      .reshape([batch, tokens, channels, 1])
      .mul(B.reshape([batch, tokens, 1, states]));
    for (let s = 1; s < tokens; s *= 2) {
      // What lies before the first token must not decay to nothing by a product with the padding: its b is zero, so it doesn't matter.
      const [earlierA, earlierB] = [before(a.ref, s), before(b.ref, s)];
      b = a.ref.mul(earlierB).add(b);
      a = a.mul(earlierA);
    }
    a.dispose();
    return b
      .mul(C.reshape([batch, tokens, 1, states]))
      .sum(3)
      .add(u);
  };

  const perceptron = (given) => {
    const [x, t, w1, w2, w3] = Object.values(given).map(array);
    let params = [w1, w2, w3].flatMap((w) => [w, np.zeros([w.shape[1]])]);
    let [first, second] = [0, 1].map(() => params.map((p) => np.zeros(p.shape)));
    let taken = 0;
    const loss = (p, x, t) => {
      let h = nn.relu(np.matmul(x, p[0]).add(p[1]));
      h = nn.relu(np.matmul(h, p[2]).add(p[3]));
      return np.mean(np.square(np.matmul(h, p[4]).add(p[5]).sub(t)));
    };
    // The corrections of the moments change from step to step and are inputs.
    const step = jit((p, m, v, x, t, c1, c2) => {
      const g = grad(loss)(
        p.map((q) => q.ref),
        x,
        t,
      );
      const out = [[], [], []];
      p.forEach((q, i) => {
        const moment = m[i].mul(0.9).add(g[i].ref.mul(0.1));
        const square = v[i].mul(0.999).add(np.square(g[i]).mul(0.001));
        out[0].push(
          q.sub(
            moment.ref
              .mul(c1.ref)
              .div(np.sqrt(square.ref.mul(c2.ref)).add(1e-8))
              .mul(1e-3),
          ),
        );
        out[1].push(moment);
        out[2].push(square);
      });
      c1.dispose();
      c2.dispose();
      return out;
    });
    const advance = () => {
      taken++;
      [params, first, second] = step(
        params,
        first,
        second,
        x.ref,
        t.ref,
        np.array(1 / (1 - 0.9 ** taken)),
        np.array(1 / (1 - 0.999 ** taken)),
      );
    };
    return {
      async run(count) {
        for (let i = 0; i < count; i++) advance();
        await finish(params.map((p) => p.ref));
      },
      result() {
        for (let i = 0; i < 3; i++) advance();
        return Promise.all(params.map((p) => p.ref.data()));
      },
      dispose: () => [x, t, ...params, ...first, ...second].forEach((p) => p.dispose()),
    };
  };

  return {
    version: JSON.parse(readFileSync(new URL(peerUrl('@jax-js/jax/package.json')), 'utf8')).version,
    adapter: environment.adapter,
    works: {
      matmul: work((a, b) => np.matmul(a, b)),
      softmax: work((x) => nn.softmax(x)),
      gate: work(gate),
      gateGrad: gradientWork(gate),
      conv: work(conv),
      convGrad: gradientWork(conv),
      layerNorm: work(norm),
      layerNormGrad: gradientWork(norm),
      mlp: perceptron,
      scan: work(scan),
      scanGrad: gradientWork(scan),
      adds: work((x, b) => {
        let y = x;
        for (let i = 0; i < 1000; i++) y = y.add(b.ref);
        b.dispose();
        return y;
      }, false),
    },
    close: () => environment.close(),
  };
}
