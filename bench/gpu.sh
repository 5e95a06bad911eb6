#!/usr/bin/env bash
# The whole measurement of a GPU in one command: ceilings, the steps of DiS-S/2 and DiS-B/2, scan and products, then every other kernel, in
# both tiers, with the configurations of kernels tuned first.
#   bench/gpu.sh [FOLDER=bench/results] [SECONDS_A_TIER=240] [further options of npm run bench, for example --adapter NAME …]
# Writes FOLDER/<adapter>-<tier>.json with the table and the tuning beside it. MEMORY is what a case may take, in GiB (default 72, for a GPU of
# 80 GB). Draw it with: npm run bench -- --show FILE --svg FILE.svg; make the tuning the default with: npm run bench:ship
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-bench/results}
seconds=${2:-240}
shift $(( $# < 2 ? $# : 2 ))
# What must be reached, in this order. The fast tier has f16 in place of f32, and repeats training in f32 where time is left.
training='^step DiS-[SB]/2 training( in 4 parts)? (64|128|256)×'
half='^step DiS-[SB]/2 training f16 (in 4 parts )?(64|128|256)×'
kernels='^(scan|matmul) .* S 64×258( f16)?$'
quickstart='^step quick start training'
squares='^matmul matmul 4096'
status=0
run() {
  local tier=$1
  shift
  node --import tsx bench/main.ts --tier "$tier" --tune --budget "$seconds" --memory "${MEMORY:-72}" --out "$folder" "$@" || status=$?
}
run stock --first "$squares" --first "$quickstart" --first "$training" --first "$kernels" "$@"
run fast --first "$squares" --first "$quickstart" --first "$half" --first "$kernels" --first "$training" "$@"
exit $status
