// The configuration of a model from the names and shapes of its weights, for files that bring none: official
// checkpoints, and safetensors by themselves. What shapes don't tell keeps the official default.

import { FormatError, ValueError, errorClause } from '../../core/errors.ts';
import { sameShape, show } from '../../core/index.ts';
import { disConfig, SSM_DEFAULTS, type DisConfig, type DisOptions } from './config.ts';
import { recogniseWeights } from './recognise.ts';
import { disParameterShapes, type WeightShapes } from './shapes.ts';

/** More are no DiS; a name that counts to a billion makes no loop of a billion. */
const MOST_BLOCKS = 1000;

/**
 * The configuration whose parameters have exactly these names and shapes.
 *
 * @param shapes of a state dict, under the official names
 * @param numClasses where it is known; else the label table is taken to have a row for "no class", as the official
 *   models do
 * @throws FormatError where they are of no DiS, saying what they look like, or name the first that doesn't fit
 */
export function disConfigFromShapes(shapes: WeightShapes, numClasses?: number): DisConfig {
  if (!shapes.has('pos_embed') || !shapes.has('patch_embed.proj.weight') || !shapes.has('mid_block.mixer.A_log')) {
    const looks = recogniseWeights(shapes);
    throw refuse(
      `the weights are none of DiS${looks === undefined ? '' : `: they look like ${looks}`}`,
      'pos_embed, patch_embed, in_blocks, mid_block, out_blocks and final_layer',
    );
  }
  const of = (name: string, rank: number): readonly number[] => {
    const shape = shapes.get(name);
    if (shape?.length === rank && shape.every((n) => n > 0)) return shape;
    throw refuse(shape ? `${name} has shape ${show(shape)}` : `${name} is missing`, `${rank} dimensions`);
  };
  const [, tokens] = of('pos_embed', 3);
  const [embedDim, channels, patchSize] = of('patch_embed.proj.weight', 4);
  let half = 0;
  while (half < MOST_BLOCKS && shapes.has(`in_blocks.${half}.mixer.A_log`)) half++;

  const [rows] = shapes.has('label_emb.embedding_table.weight') ? of('label_emb.embedding_table.weight', 2) : [0];
  const classes = rows === 0 ? 0 : numClasses === rows ? rows : rows - 1;
  if (numClasses !== undefined && Math.max(numClasses, 0) !== classes)
    throw refuse(`the label table has ${rows} rows`, `${Math.max(numClasses, 0) + 1} for ${numClasses} classes`);
  const patches = tokens - (rows > 0 ? 2 : 1);
  const side = Math.round(Math.sqrt(patches));
  if (patches < 1 || side ** 2 !== patches)
    throw refuse(`pos_embed has ${tokens} tokens`, `a square number of patches and ${rows > 0 ? 2 : 1} more`);

  const mixer = 'mid_block.mixer';
  const [dInner, dState] = of(`${mixer}.A_log`, 2);
  const [, dtRank] = of(`${mixer}.dt_proj.weight`, 2);
  const [, , dConv] = of(`${mixer}.conv1d.weight`, 3);
  const [outputs] = of('final_layer.linear.weight', 2);
  const config = checkedConfig({
    imgSize: side * patchSize,
    patchSize,
    embedDim,
    channels,
    depth: Math.max(1, 2 * half), // 1 has the middle block alone
    numClasses: classes,
    classDropoutProb: classes > 0 && rows === classes ? 0 : undefined,
    learnSigma: outputs === 2 * patchSize ** 2 * channels,
    rmsNorm: !shapes.has('norm_f.bias'),
    mlpTimeEmbed: shapes.has('time_embed.0.weight'),
    skip: half === 0 || shapes.has('out_blocks.0.skip_linear.weight'),
    ssm: {
      dState,
      dConv,
      expand: dInner / embedDim,
      dtRank: dtRank === Math.ceil(embedDim / 16) ? SSM_DEFAULTS.dtRank : dtRank,
      convBias: shapes.has(`${mixer}.conv1d.bias`),
      bias: shapes.has(`${mixer}.in_proj.bias`),
    },
  });
  agree(shapes, config);
  return config;
}

function checkedConfig(options: DisOptions): DisConfig {
  try {
    return disConfig(options);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    throw refuse(`the shapes make no model: ${errorClause(error)}`, error.expected);
  }
}

/** Names what the weights of a configuration have and these don't, or have otherwise, or have beside. */
function agree(shapes: WeightShapes, config: DisConfig): void {
  const unknown = new Set(shapes.keys());
  for (const [name, shape] of disParameterShapes(config)) {
    const found = shapes.get(name);
    if (!found) throw refuse(`${name} is missing`, `shape ${show(shape)}`);
    if (!sameShape(found, shape)) throw refuse(`${name} has shape ${show(found)}`, show(shape));
    unknown.delete(name);
  }
  for (const name of unknown)
    throw refuse(`there is also ${JSON.stringify(name.slice(0, 100))}`, 'the parameters of a DiS and no others');
}

function refuse(what: string, expected: string | undefined): FormatError {
  return new FormatError('disConfigFromShapes', what, { expected });
}
