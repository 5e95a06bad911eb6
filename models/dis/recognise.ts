// What a file of weights is, told from its tensors' names, for those who gave it as a DiS. Names are those that the
// projects' own code writes.

import type { WeightShapes } from './shapes.ts';

interface Signature {
  readonly what: string;
  /** Each must match a name. */
  readonly has: readonly RegExp[];
  /** None may match one. */
  readonly lacks?: readonly RegExp[];
}

/** The more particular come first. */
const SIGNATURES: readonly Signature[] = [
  {
    what: 'a whole Stable Diffusion checkpoint (its model.diffusion_model is a U-Net)',
    has: [/^model\.diffusion_model\.(input_blocks|joint_blocks|double_blocks)\./],
  },
  { what: "an optimizer's state alone, without a model", has: [/(^|\.)exp_avg(_sq)?$/], lacks: [/\.weight$/] },
  { what: "an optimizer's state of dis-cli (optimizer.safetensors)", has: [/^m\.pos_embed$/, /^v\.pos_embed$/] },
  { what: 'LoRA weights, which change another model', has: [/lora_(A|B|down|up)\b|\.lora\./] },
  { what: 'a ControlNet', has: [/controlnet_(cond_embedding|down_blocks)|^control_model\./] },
  { what: 'a diffusers VAE (AutoencoderKL)', has: [/^encoder\.down_blocks\./, /^decoder\.up_blocks\./] },
  {
    what: "a VAE of the latent-diffusion code (AutoencoderKL's older form)",
    has: [/(^|\.)encoder\.down\.0\./, /(^|\.)decoder\.up\.0\./],
  },
  { what: 'an Inception network', has: [/^Mixed_5b\./, /^Mixed_7c\./] },
  { what: 'Stable Diffusion 3 (MMDiT)', has: [/(^|\.)joint_blocks\.0\./] },
  { what: 'FLUX', has: [/(^|\.)double_blocks\.0\./, /(^|\.)single_blocks\.0\./] },
  {
    what: 'a DiT in diffusers form',
    has: [/^transformer_blocks\.0\./, /^(pos_embed\.proj|proj_out_1|caption_projection)\./],
  },
  { what: 'a diffusers U-Net', has: [/^down_blocks\.0\./, /^up_blocks\.0\./, /^mid_block\./] },
  {
    what: 'a U-Net of the guided-diffusion or latent-diffusion code',
    has: [/^input_blocks\.0\./, /^output_blocks\.0\./],
  },
  {
    what: 'a U-ViT',
    has: [/^(in_blocks)\.0\.attn\./, /^mid_block\.attn\./],
  },
  { what: 'a DiT', has: [/^blocks\.0\.adaLN_modulation\./, /^(x_embedder|t_embedder)\./] },
  { what: 'a SiT or another descendant of DiT', has: [/adaLN_modulation\./, /^blocks\.0\.attn\./] },
  { what: 'Vision Mamba (Vim)', has: [/^layers\.0\.mixer\.A_log$/, /^(cls_token|pos_embed|patch_embed\.)/] },
  { what: 'a Mamba language model', has: [/^(model\.)?backbone\.(layers\.0\.mixer|embeddings?)\b/] },
  { what: 'a CLIP model', has: [/(^|\.)(text_model|visual|vision_model)\./, /(^|\.)(logit_scale|text_projection)/] },
  { what: 'a CLIP text encoder', has: [/(^|\.)text_model\.encoder\.layers\.0\./] },
  { what: 'a masked autoencoder (MAE)', has: [/^decoder_blocks\.0\./, /^mask_token$/] },
  {
    what: 'a timm vision transformer',
    has: [/^blocks\.0\.attn\.qkv\.weight$/, /^(cls_token|pos_embed|patch_embed\.)/],
  },
  { what: 'a transformer language model of the LLaMA family', has: [/^(model\.)?layers\.0\.self_attn\.q_proj\./] },
  { what: 'a GPT-2', has: [/^(transformer\.)?h\.0\.attn\.c_attn\./] },
  { what: 'a T5', has: [/^encoder\.block\.0\.layer\.0\.SelfAttention\./] },
  { what: 'a BERT', has: [/^(bert\.)?encoder\.layer\.0\.attention\.self\.query\./] },
  { what: 'a ResNet', has: [/^layer1\.0\.conv1\.weight$/, /^fc\.weight$|^layer4\./] },
  { what: 'a ConvNeXt', has: [/^(stages|downsample_layers)\.0\./, /dwconv\.weight$|conv_dw\.weight$/] },
];

/**
 * What weights look like that are none of DiS: "a DiT", "a diffusers U-Net" …; undefined where their names say nothing.
 *
 * @param shapes of the tensors; only names are looked at, with and without the prefix of a wrapper
 */
export function recogniseWeights(shapes: WeightShapes): string | undefined {
  const names = [...shapes.keys()].map((name) => name.replace(/^(module|_orig_mod|model_ema|state_dict)\./, ''));
  const some = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  return SIGNATURES.find(({ has, lacks = [] }) => has.every(some) && !lacks.some(some))?.what;
}
