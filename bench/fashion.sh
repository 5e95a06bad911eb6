#!/usr/bin/env bash
# usage: bench/fashion.sh RUN NSFWJS [OUT]
# Evaluates a trained run on one GPU and prints a Markdown table: 5,000 samples (SAMPLES) against the test split with the floor,
# DDIM 50 and DDPM 250 with and without guidance, the distance over the checkpoints, loss and bits per dimension.
#
#   RUN     a run's folder, whose data lie where they did when it was trained
#   NSFWJS  the unpacked npm package nsfwjs: dist/models/inception_v3/{model,group1-shard1of6 … group1-shard6of6}.min.js are read
#   OUT     a folder for the numbers, RUN/eval/table by default
#
# Everything is kept as it comes: started again, the script goes on where it was.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2; }
run=$1 nsfwjs=$2 out=${3:-$1/eval/table}
samples=${SAMPLES:-5000} batch=${BATCH:-500} tier=${TIER:-fast} precision=${PRECISION:-f16} guidance=${GUIDANCE:-1.5}
network=${NETWORK:-nsfwjs}
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"

evaluate() { # NAME, options of dis-cli eval
  local name=$1
  shift
  [ -s "$out/$name.json" ] && return
  node "$here/cli/dis-cli.mjs" eval "$run" --network "$network" --nsfwjs "$nsfwjs" --samples "$samples" --batch "$batch" \
    --tier "$tier" --precision "$precision" --out "$out/$name.part" "$@" >&2
  mv "$out/$name.part" "$out/$name.json"
}

evaluate ddim50 --sampler ddim --steps 50 --guidance 1 --metrics fd,kid,pr
evaluate ddim50-guided --sampler ddim --steps 50 --guidance "$guidance" --metrics fd,kid,pr
evaluate steps --sampler ddim --steps 50 --guidance 1 --metrics fd,kid --checkpoint all
evaluate bpd --metrics bpd --bpd-samples "${BPD_SAMPLES:-256}" --batch 256
evaluate ddpm250 --sampler ddpm --steps 250 --guidance 1 --metrics fd,kid,pr
evaluate ddpm250-guided --sampler ddpm --steps 250 --guidance "$guidance" --metrics fd,kid,pr

node - "$run" "$out" <<'NODE'
const { readFileSync } = require('node:fs');
const [run, out] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(`${out}/${name}.json`, 'utf8'));
const number = (value) => (value === undefined ? '' : Math.abs(value) >= 1 ? value.toFixed(2) : value.toPrecision(3));
const kid = (found) => (found ? `${number(found.mean)} ± ${number(found.deviation)}` : '');
const rows = ['ddim50', 'ddim50-guided', 'ddpm250', 'ddpm250-guided'].map((name) => read(name)[0]);
const [{ name, reference, floor }] = rows[0].results;
const kidName = name.replace('FD', 'KID');
console.log(`${rows[0].count} samples against ${reference.count} of ${reference.label}, step ${rows[0].step}; floor: ${floor.what}.\n`);
console.log(`| sampler | guidance | ${name} | ${kidName} | precision | recall |\n|---|---|---|---|---|---|`);
for (const { sampler, steps, guidance, results } of rows) {
  const { fd, kid: k, pr } = results[0];
  const words = `${sampler.toUpperCase()}, ${steps} steps`;
  console.log(`| ${words} | ${guidance === 1 ? 'none' : guidance} | ${number(fd)} | ${kid(k)} | ${number(pr?.precision)} | ${number(pr?.recall)} |`);
}
console.log(`| the floor | | ${number(floor.fd)} | ${kid(floor.kid)} | ${number(floor.pr?.precision)} | ${number(floor.pr?.recall)} |`);
console.log(`\n| step | ${name} | ${kidName} |\n|---|---|---|`);
for (const { step, results } of read('steps')) console.log(`| ${step} | ${number(results[0].fd)} | ${kid(results[0].kid)} |`);
const { bpd } = read('bpd')[0];
const losses = readFileSync(`${run}/metrics.jsonl`, 'utf8').trim().split('\n').map((line) => JSON.parse(line).loss).filter(Number.isFinite);
const last = losses.slice(-500);
console.log(`\nLoss, mean of the last ${last.length} steps: ${(last.reduce((a, b) => a + b, 0) / last.length).toFixed(4)}.`);
console.log(`Bits per dimension of ${bpd.pictures} pictures of ${bpd.of}: ${bpd.mean.toFixed(3)} ± ${number(bpd.error)}.`);
NODE
