// Checkpoints of the official train.py: their parts, a trainer that goes on as the official one did, and files that are
// something else.

import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { suite } from 'uvu';
import { FormatError } from '../../core/errors.ts';
import { Generator, scope } from '../../core/index.ts';
import { createDiffusion } from '../../models/diffusion/index.ts';
import {
  Dis,
  disConfig,
  disConfigFromShapes,
  disOptionsFromOfficial,
  disParameterShapes,
  officialCheckpoint,
  recogniseWeights,
  type OfficialCheckpoint,
} from '../../models/dis/index.ts';
import { officialTrainerState, Trainer, type StepRecord } from '../../models/train/index.ts';
import type { PtTensor } from '../../nn/index.ts';
import { openPt, PtObject, warmupCosine, type PtFile, type PtValue } from '../../nn/index.ts';
import { gpuSuite, peakError } from '../support.ts';
import { officialNext, officialPath, officialRun } from './officialRun.ts';

const run = officialRun();
const open = (name: string): Promise<PtFile> => openPt(readFileSync(officialPath(name)));

const gpu = gpuSuite('official checkpoint');
for (const name of ['zip.pt', 'legacy.pt'])
  gpu(`${name}: the next steps are the official ones`, async ({ device, own }) => {
    const checkpoint = await officialCheckpoint(await open(name));
    assert.equal(checkpoint.config, disConfig(disOptionsFromOfficial(run.config)));
    const { lr, min_lr, warmup_epochs, epochs, global_batch_size: batch } = run.args as Record<string, number>;
    const generator = own(new Generator(device));
    const model = own(scope(() => new Dis(generator, checkpoint.config)));
    const schedule = warmupCosine({ lr, minLr: min_lr, warmup: warmup_epochs, total: epochs });
    const { betas, eps, weightDecay } = checkpoint.optimizer!;
    const trainer = own(
      new Trainer({
        device,
        model,
        diffusion: own(createDiffusion(device)),
        batchSize: batch,
        lr: (step) => schedule(step / run.steps_per_epoch),
        betas,
        eps,
        weightDecay,
        emaDecay: run.ema_decay,
      }),
    );
    trainer.loadState(await officialTrainerState(checkpoint));
    assert.is(trainer.step, run.step);
    model.eval(); // what was recorded was computed without dropout
    const next = officialNext();
    const rows = (input: string, step: number): ArrayLike<number> => {
      const data = next.get(`in.${input}`)!.data as Float32Array;
      const size = data.length / run.next.length;
      return data.subarray(step * size, (step + 1) * size);
    };
    const [, ...shape] = next.get('in.x_start')!.shape;
    const records: StepRecord[] = [];
    for (let step = 0; step < run.next.length; step++)
      records.push(
        await trainer.trainBatch(
          {
            images: Float32Array.from(rows('x_start', step)),
            labels: Int32Array.from(rows('labels', step)),
            shape: shape as [number, number, number, number],
            epoch: 0,
          },
          {
            timesteps: Int32Array.from(rows('t', step)),
            noise: Float32Array.from(rows('noise', step)),
            labels: Int32Array.from(rows('labels', step)),
          },
        ),
      );
    for (const term of ['loss', 'mse', 'vb', 'gradNorm', 'lr'] as const) {
      const expected = run.next.map((each) => each[term]);
      const error = peakError(
        records.map((record) => record[term]!),
        expected,
      );
      assert.ok(error < 1e-4, `${term}: relative error ${error}`);
    }
    const state = await trainer.state();
    for (const [key, part, limit] of [
      ['final', 'model', 1e-3],
      ['ema', 'ema', 1e-5],
    ] as const)
      for (const [tensor, entry] of next) {
        if (!tensor.startsWith(`${key}.`)) continue;
        const error = peakError(
          state[part].get(tensor.slice(key.length + 1))!.data as Float32Array,
          entry.data as Float32Array,
        );
        assert.ok(error < limit, `${tensor}: relative error ${error}`);
      }
  });
gpu.run();

const test = suite('parts of a checkpoint');

test('arguments are plain values, and both forms are the same', async () => {
  const [zip, legacy] = await Promise.all(
    ['zip.pt', 'legacy.pt'].map(async (name) => officialCheckpoint(await open(name))),
  );
  for (const checkpoint of [zip, legacy]) {
    assert.equal(checkpoint.args, run.args);
    const { step, betas, eps, weightDecay } = checkpoint.optimizer!;
    assert.equal([step, betas, eps, weightDecay], [run.step, [0.9, 0.999], 1e-8, 0]);
  }
  for (const of of [
    (c: OfficialCheckpoint) => c.model,
    (c: OfficialCheckpoint) => c.ema,
    (c: OfficialCheckpoint) => c.optimizer!.moments,
  ])
    for (const [name, tensor] of of(zip)) assert.equal(await tensor.read(), await of(legacy).get(name)!.read(), name);
});

const dictionary = (value: PtValue | undefined): Map<PtValue, PtValue> => new Map(value as Map<PtValue, PtValue>);

/** The checkpoint, changed. */
async function changed(change: (root: Map<PtValue, PtValue>) => PtValue | void): Promise<OfficialCheckpoint> {
  const file = await open('zip.pt');
  const root = dictionary(file.value);
  root.set('opt', dictionary(root.get('opt')));
  return officialCheckpoint({ ...file, value: change(root) ?? root });
}

async function refused(pattern: RegExp, change: (root: Map<PtValue, PtValue>) => PtValue | void): Promise<void> {
  const error = await changed(change).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.instance(error, FormatError, String(pattern));
  assert.match((error as Error).message, pattern);
}

test('a state dict by itself, or with the prefix of a wrapper, is read', async () => {
  const alone = await changed((root) => root.get('ema'));
  assert.is(alone.optimizer, undefined);
  assert.equal(alone.args, {});
  assert.equal(alone.config, disConfig(disOptionsFromOfficial(run.config)));
  const wrapped = await changed((root) => {
    const named = [...dictionary(root.get('model'))].map(
      ([name, tensor]) => [`_orig_mod.module.${String(name)}`, tensor] as const,
    );
    return new Map<PtValue, PtValue>([['state_dict', new Map(named)]]);
  });
  assert.equal([...wrapped.model.keys()], [...alone.model.keys()]);
  assert.equal((await changed((root) => void root.delete('ema'))).ema.size, alone.ema.size);
});

test('a parameter without a gradient has moments of zero', async () => {
  const { optimizer } = await changed((root) => {
    const opt = root.get('opt') as Map<PtValue, PtValue>;
    const state = dictionary(opt.get('state'));
    state.delete(0);
    opt.set('state', state);
  });
  const entry = await optimizer!.moments.get('m.pos_embed')!.read();
  assert.ok(entry.data.length > 0 && (entry.data as Float32Array).every((value) => value === 0));
});

test('parts that contradict each other are refused', async () => {
  const group = (root: Map<PtValue, PtValue>, change: Record<string, PtValue>): void => {
    const opt = root.get('opt') as Map<PtValue, PtValue>;
    const [first] = opt.get('param_groups') as Map<PtValue, PtValue>[];
    opt.set('param_groups', [new Map([...first, ...Object.entries(change)])]);
  };
  const state = (root: Map<PtValue, PtValue>, change: (first: Map<PtValue, PtValue>) => void): void => {
    const opt = root.get('opt') as Map<PtValue, PtValue>;
    const all = dictionary(opt.get('state')),
      first = dictionary(all.get(0));
    change(first);
    opt.set('state', all.set(0, first));
  };
  await refused(/no dictionary/, () => [1, 2]);
  await refused(/"model", expected what the official/, () => new Map([['model', 1]]));
  await refused(/optimizer's state alone/, (root) => root.get('opt'));
  await refused(/holds nothing/, () => new Map());
  await refused(/label table has 11 rows, expected 8 for 7 classes/, (root) => {
    const args = root.get('args') as PtObject;
    root.set('args', new PtObject(args.type, [...args.fields, ['num_classes', 7]]));
  });
  await refused(/the weights are none of DiS, expected pos_embed/, (root) => {
    const model = dictionary(root.get('model'));
    model.delete('pos_embed');
    root.set('model', model);
  });
  await refused(/norm_f.weight is missing/, (root) => {
    const model = dictionary(root.get('model'));
    model.delete('norm_f.weight');
    root.set('model', model);
    root.delete('ema');
  });
  await refused(/of the average/, (root) => {
    const ema = dictionary(root.get('ema'));
    ema.set('pos_embed', ema.get('norm_f.weight')!);
    root.set('ema', ema);
  });
  await refused(/optimizer has 2 groups/, (root) => {
    const opt = root.get('opt') as Map<PtValue, PtValue>;
    const groups = opt.get('param_groups') as PtValue[];
    opt.set('param_groups', [...groups, ...groups]);
  });
  await refused(/optimizer has 1 parameters, expected \d+/, (root) => group(root, { params: [0] }));
  await refused(/used with amsgrad/, (root) => group(root, { amsgrad: true }));
  await refused(/first beta is 1,/, (root) => group(root, { betas: [1, 0.9] }));
  await refused(/betas are no two numbers/, (root) => group(root, { betas: [0.9] }));
  await refused(/eps is -1/, (root) => group(root, { eps: -1 }));
  await refused(/step of pos_embed is 1.5/, (root) => state(root, (first) => first.set('step', 1.5)));
  await refused(/took 3, 17 steps with different/, (root) => state(root, (first) => first.set('step', 3)));
  await refused(/exp_avg of pos_embed is no tensor of shape \(1,6,8\)/, (root) =>
    state(root, (first) => first.set('exp_avg', first.get('step')!)),
  );
});

test('a configuration is told from shapes, whatever it is', () => {
  for (const options of [
    { imgSize: 8, patchSize: 2, embedDim: 16, depth: 4 },
    { imgSize: 8, patchSize: 4, embedDim: 24, depth: 2, numClasses: 5, channels: 4, learnSigma: false },
    { imgSize: 4, patchSize: 2, embedDim: 16, depth: 1, rmsNorm: false, mlpTimeEmbed: false },
    {
      imgSize: 8,
      patchSize: 2,
      embedDim: 16,
      depth: 2,
      skip: false,
      numClasses: 3,
      ssm: { dState: 4, dConv: 3, expand: 3, dtRank: 5, bias: true, convBias: false },
    },
  ]) {
    const config = disConfig(options);
    assert.equal(disConfigFromShapes(new Map(disParameterShapes(config))), config);
  }
  const undropped = disConfig({ imgSize: 8, patchSize: 4, embedDim: 16, depth: 2, numClasses: 5, classDropoutProb: 0 });
  assert.equal(disConfigFromShapes(new Map(disParameterShapes(undropped)), 5), undropped);
});

test('a name that counts far makes no long loop, an odd shape no model', () => {
  const shapes = new Map(disParameterShapes(disConfig({ imgSize: 8, patchSize: 4, embedDim: 16, depth: 2 })));
  for (const [name, shape, pattern] of [
    ['pos_embed', [1, 6, 16], /square number/],
    ['pos_embed', [1, 0, 16], /pos_embed has shape/],
    ['patch_embed.proj.weight', [16, 3, 4, 5], /patch_embed.proj.weight has shape/],
    ['mid_block.mixer.A_log', [33, 16], /shapes make no model|A_log has shape/],
    ['stranger', [1], /there is also "stranger"/],
  ] as const) {
    assert.throws(
      () => disConfigFromShapes(new Map([...shapes, [name, shape]])),
      (error: Error) => error instanceof FormatError && pattern.test(error.message),
      name,
    );
  }
});

/** Some names of files of others, as their projects write them. */
const OTHERS: readonly (readonly [looks: RegExp, ...names: string[]])[] = [
  [
    /^a DiT$/,
    'pos_embed',
    'x_embedder.proj.weight',
    't_embedder.mlp.0.weight',
    'y_embedder.embedding_table.weight',
    'blocks.0.attn.qkv.weight',
    'blocks.0.adaLN_modulation.1.weight',
    'final_layer.linear.weight',
  ],
  [
    /timm vision transformer/,
    'cls_token',
    'pos_embed',
    'patch_embed.proj.weight',
    'blocks.0.norm1.weight',
    'blocks.0.attn.qkv.weight',
    'head.weight',
  ],
  [
    /diffusers U-Net/,
    'conv_in.weight',
    'time_embedding.linear_1.weight',
    'down_blocks.0.resnets.0.conv1.weight',
    'mid_block.resnets.0.conv1.weight',
    'up_blocks.0.resnets.0.conv1.weight',
  ],
  [
    /diffusers VAE/,
    'encoder.down_blocks.0.resnets.0.conv1.weight',
    'decoder.up_blocks.0.resnets.0.conv1.weight',
    'quant_conv.weight',
  ],
  [/latent-diffusion code \(Auto/, 'encoder.down.0.block.0.conv1.weight', 'decoder.up.0.block.0.conv1.weight'],
  [
    /whole Stable Diffusion/,
    'model.diffusion_model.input_blocks.0.0.weight',
    'first_stage_model.encoder.conv_in.weight',
    'cond_stage_model.transformer.text_model.embeddings.position_ids',
  ],
  [/Mamba language model/, 'backbone.embedding.weight', 'backbone.layers.0.mixer.A_log', 'lm_head.weight'],
  [
    /Vision Mamba/,
    'cls_token',
    'pos_embed',
    'patch_embed.proj.weight',
    'layers.0.mixer.A_log',
    'layers.0.mixer.A_b_log',
  ],
  [/U-ViT/, 'pos_embed', 'in_blocks.0.attn.qkv.weight', 'mid_block.attn.qkv.weight', 'out_blocks.0.skip_linear.weight'],
  [/optimizer's state alone/, 'state.0.exp_avg', 'state.0.exp_avg_sq', 'state.0.step'],
  [/optimizer.safetensors/, 'm.pos_embed', 'v.pos_embed'],
  [/LoRA/, 'unet.down_blocks.0.attentions.0.to_q.lora_A.weight'],
  [/CLIP text/, 'text_model.encoder.layers.0.self_attn.q_proj.weight'],
  [/LLaMA/, 'model.embed_tokens.weight', 'model.layers.0.self_attn.q_proj.weight'],
  [/Inception/, 'Conv2d_1a_3x3.conv.weight', 'Mixed_5b.branch1x1.conv.weight', 'Mixed_7c.branch1x1.conv.weight'],
];

for (const [looks, ...names] of OTHERS)
  test(`told apart: ${looks}`, () => {
    for (const prefix of ['', 'module.']) {
      const shapes = new Map(names.map((name) => [prefix + name, [1]] as const));
      assert.match(recogniseWeights(shapes) ?? 'nothing', looks);
      assert.throws(() => disConfigFromShapes(shapes), /the weights are none of DiS: they look like/);
    }
  });

test('names that say nothing are not guessed at', () => {
  assert.is(
    recogniseWeights(
      new Map([
        ['a', [1]],
        ['weight', [2]],
      ]),
    ),
    undefined,
  );
  assert.is(recogniseWeights(new Map()), undefined);
  assert.is(recogniseWeights(new Map(disParameterShapes(disConfig('DiS-S/2', { imgSize: 32 })))), undefined);
});

test('a tensor is read when it is asked for', async () => {
  const file = await open('zip.pt');
  let read = 0;
  const counting: PtFile = { ...file, read: (tensor: PtTensor) => (read++, file.read(tensor)) };
  const { model, optimizer } = await officialCheckpoint(counting);
  assert.is(read, optimizer!.moments.size / 2, 'the steps alone');
  await model.get('pos_embed')!.read();
  assert.is(read, optimizer!.moments.size / 2 + 1);
});

test.run();
