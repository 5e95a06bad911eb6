"""PyTorch's side of the comparison, on the CPU. Speaks the protocol of bench/channel.ts."""
import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

MARK = '@bench '
BATCH, MOST = 0.1, 16


def values(shape, low, high, seed):
    """The numbers of valuesOf in works.ts."""
    mask = np.uint64(0xFFFFFFFF)
    i = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mix = np.uint64(((seed + 1) * 0x9E3779B9) & 0xFFFFFFFF)
    h = ((i ^ mix) * np.uint64(0x85EBCA6B)) & mask
    h ^= h >> np.uint64(13)
    h = (h * np.uint64(0xC2B2AE35)) & mask
    h ^= h >> np.uint64(16)
    return (low + (high - low) * ((h >> np.uint64(8)) / 2.0 ** 24)).astype(np.float32).reshape(shape)


def scan(u, delta, A, B, C):
    step = F.softplus(delta)
    decay, inputs = torch.exp(step[..., None] * A), (step * u)[..., None] * B[:, :, None]
    # One call for all tokens: slices of a long sequence make the backward pass quadratic.
    state, out = None, []
    for a, b, c in zip(decay.unbind(1), inputs.unbind(1), C.unbind(1)):
        state = b if state is None else a * state + b
        out.append((state * c[:, None]).sum(-1))
    return torch.stack(out, 1) + u


def conv(x, w):
    return F.conv1d(F.pad(x.transpose(1, 2), (3, 0)), w.t()[:, None], groups=w.shape[1]).transpose(1, 2)


def gate(x, y, z):
    return F.silu(x) * y + z


def layer_norm(x, weight, bias):
    return F.layer_norm(x, weight.shape, weight, bias, 1e-5)


def adds(x, b):
    for _ in range(1000):
        x = x + b
    return x


FORWARD = {'matmul': lambda a, b: a @ b, 'softmax': lambda x: torch.softmax(x, -1), 'gate': gate, 'conv': conv, 'layerNorm': layer_norm, 'scan': scan, 'adds': adds}
BACKWARD = {'gateGrad': gate, 'convGrad': conv, 'layerNormGrad': layer_norm, 'scanGrad': scan}


def forward_work(compute, given):
    def once():
        with torch.no_grad():
            return [compute(*given.values())]
    return once


def gradient_work(compute, given):
    g = given.pop('g')
    leaves = [t.requires_grad_() for t in given.values()]
    return lambda: list(torch.autograd.grad(compute(*leaves), leaves, g))


def perceptron(given):
    x, t = given['x'], given['t']
    layers = [(given[k].clone().requires_grad_(), torch.zeros(512, requires_grad=True)) for k in ('w1', 'w2', 'w3')]
    params = [p for layer in layers for p in layer]
    optimizer = torch.optim.Adam(params, lr=1e-3)

    def once():
        h = x
        for i, (w, b) in enumerate(layers):
            h = h @ w + b
            h = F.relu(h) if i < 2 else h
        optimizer.zero_grad()
        ((h - t) ** 2).mean().backward()
        optimizer.step()
        return params
    return once


def digest(t):
    flat = t.detach().reshape(-1).numpy()
    picks = min(len(flat), 199)
    return {'count': len(flat), 'magnitude': float(np.abs(flat).mean(dtype=np.float64)), 'values': [float(flat[i * len(flat) // picks]) for i in range(picks)]}


class Worker:
    def prepare(self, kind, inputs):
        given = {name: torch.from_numpy(values(v['shape'], v['low'], v['high'], i)) for i, (name, v) in enumerate(inputs.items())}
        if kind == 'mlp':
            self.once, times = perceptron(given), 3
        else:
            self.once, times = (gradient_work(BACKWARD[kind], given) if kind in BACKWARD else forward_work(FORWARD[kind], given)), 1
        begun = time.perf_counter()
        for _ in range(times):
            results = self.once()
        digests, first = [digest(t) for t in results], time.perf_counter() - begun
        begun = time.perf_counter()
        self.once()
        self.count = max(1, min(MOST, int(BATCH / (time.perf_counter() - begun)) + 1))
        return {'digests': digests, 'first': first}

    def time(self):
        begun = time.perf_counter()
        for _ in range(self.count):
            self.once()
        return (time.perf_counter() - begun) / self.count


worker = Worker()
for line in sys.stdin:
    request = json.loads(line)
    try:
        ask = request['ask']
        if ask == 'engine':
            value = {'version': torch.__version__, 'adapter': f'CPU, {torch.get_num_threads()} threads'}
        elif ask == 'prepare':
            value = worker.prepare(request['kind'], request['inputs'])
        elif ask == 'time':
            value = worker.time()
        else:
            value = None
        reply = {'value': value}
    except Exception as error:  # the parent is told, and goes on
        reply = {'error': f'{type(error).__name__}: {error}'}
    print(MARK + json.dumps(reply), flush=True)
