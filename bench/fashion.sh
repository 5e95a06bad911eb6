#!/usr/bin/env bash
# usage: bench/fashion.sh RUN NSFWJS [OUT]
# Trains DiS-S/2 on Fashion-MNIST where RUN isn't there or isn't done, evaluates it and prints a Markdown table: 5,000 samples (SAMPLES)
# against the test split with the floor, DDIM 50 and DDPM 250 with and without guidance, the distance over the checkpoints, loss and
# bits per dimension.
#
#   RUN     the run's folder; where it was trained already, its data lie where they did then
#   NSFWJS  the unpacked npm package nsfwjs: dist/models/inception_v3/{model,group1-shard1of6 … group1-shard6of6}.min.js are read
#   OUT     a folder for the numbers, RUN/eval/table by default
#   GPUS=2     train and sample on so many GPUs (training wants Open MPI); 1 by default
#   LIMIT=600  stop cleanly after so many seconds, with status 75 and the table as far as it is known
#   TRAIN=no   evaluate the run as it is; other words take the place of the flags that it is trained with
#
# Everything is kept as it comes: started again, the script goes on where it was.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
run=$1 nsfwjs=$2 out=${3:-$1/eval/table}
samples=${SAMPLES:-5000} batch=${BATCH:-500} tier=${TIER:-fast} precision=${PRECISION:-f16} guidance=${GUIDANCE:-1.5}
network=${NETWORK:-nsfwjs} gpus=${GPUS:-1} limit=${LIMIT:-0}
train=${TRAIN:---data data/fashion-mnist --model DiS-S/2 --image-size 32 --batch 128 --steps 10000 --precision f16 --lr 2e-4 --warmup 500 \
  --checkpoint-every 2000 --keep 0 --sample-every 2000}
here=$(cd "$(dirname "$0")/.." && pwd)
several=()
[ "$gpus" = 1 ] || several=(--gpus "$gpus" ${OVERSUBSCRIBE:+--oversubscribe})

later() { # SENTENCE: ends for this time
  [ ! -s "$out/ddim50.json" ] || table
  echo "fashion.sh: $1; the same command goes on." >&2
  exit 75
}

table() {
node - "$run" "$out" <<'NODE'
const { existsSync, readFileSync } = require('node:fs');
const [run, out] = process.argv.slice(2);
const there = (name) => existsSync(`${out}/${name}.json`);
const read = (name) => JSON.parse(readFileSync(`${out}/${name}.json`, 'utf8'));
const number = (value) => (value === undefined ? '' : Math.abs(value) >= 1 ? value.toFixed(2) : value.toPrecision(3));
const kid = (found) => (found ? `${number(found.mean)} ± ${number(found.deviation)}` : '');
const rows = ['ddim50', 'ddim50-guided', 'ddpm250', 'ddpm250-guided'].filter(there).map((name) => read(name)[0]);
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
if (there('steps')) {
  console.log(`\n| step | ${name} | ${kidName} |\n|---|---|---|`);
  for (const { step, results } of read('steps')) console.log(`| ${step} | ${number(results[0].fd)} | ${kid(results[0].kid)} |`);
}
const losses = readFileSync(`${run}/metrics.jsonl`, 'utf8').trim().split('\n').map((line) => JSON.parse(line).loss).filter(Number.isFinite);
const last = losses.slice(-500);
console.log(`\nLoss, mean of the last ${last.length} steps: ${(last.reduce((a, b) => a + b, 0) / last.length).toFixed(4)}.`);
if (there('bpd')) {
  const { bpd } = read('bpd')[0];
  console.log(`Bits per dimension of ${bpd.pictures} pictures of ${bpd.of}: ${bpd.mean.toFixed(3)} ± ${number(bpd.error)}.`);
}
NODE
}

cli() { # arguments of dis-cli, until the limit is reached
  local status=0 within=()
  if [ "$limit" -gt 0 ]; then
    [ $((limit - SECONDS)) -gt 0 ] || later "LIMIT=$limit is reached"
    # As Ctrl-C, to this process alone: it ends its others itself.
    within=(timeout --foreground --signal INT --kill-after 60 $((limit - SECONDS)))
  fi
  "${within[@]}" node "$here/cli/dis-cli.mjs" "$@" >&2 || status=$?
  case $status in
    0) ;;
    124 | 137) later "LIMIT=$limit is reached" ;;
    130) later 'interrupted' ;;
    *) exit $status ;;
  esac
}

trained() { # whether the newest checkpoint is the last that is planned
  node -e '
    const { readFileSync, readdirSync } = require("node:fs");
    const { plan } = JSON.parse(readFileSync(`${process.argv[1]}/config.json`, "utf8"));
    const steps = readdirSync(`${process.argv[1]}/checkpoints`).map((name) => Number(/^step-(\d+)$/.exec(name)?.[1] ?? 0));
    process.exit(Math.max(...steps) >= plan.steps ? 0 : 1);
  ' "$run" 2>/dev/null
}

if [ "$train" != no ] && ! trained; then
  if compgen -G "$run/checkpoints/step-*" >/dev/null; then
    cli train --resume "$run" --tier "$tier" "${several[@]}"
  else
    # shellcheck disable=SC2086 # words
    cli train $train --tier "$tier" "${several[@]}" --out "$run"
  fi
fi
mkdir -p "$out"

evaluate() { # NAME, options of dis-cli eval
  local name=$1
  shift
  [ ! -s "$out/$name.json" ] || return 0
  cli eval "$run" --network "$network" --nsfwjs "$nsfwjs" --samples "$samples" --batch "$batch" \
    --tier "$tier" --precision "$precision" "${several[@]}" --out "$out/$name.part" "$@"
  mv "$out/$name.part" "$out/$name.json"
}

evaluate ddim50 --sampler ddim --steps 50 --guidance 1 --metrics fd,kid,pr
evaluate ddim50-guided --sampler ddim --steps 50 --guidance "$guidance" --metrics fd,kid,pr
evaluate steps --sampler ddim --steps 50 --guidance 1 --metrics fd,kid --checkpoint all
evaluate bpd --metrics bpd --bpd-samples "${BPD_SAMPLES:-256}" --batch 256
evaluate ddpm250 --sampler ddpm --steps 250 --guidance 1 --metrics fd,kid,pr
evaluate ddpm250-guided --sampler ddpm --steps 250 --guidance "$guidance" --metrics fd,kid,pr
table
