#!/usr/bin/env bash
# The whole measurement of a GPU in one command: ceilings, every kernel, the steps of DiS-S/2 and DiS-B/2, in both tiers, with the
# configurations of kernels tuned first.
#   bench/gpu.sh [FOLDER=bench/results] [SECONDS_A_TIER=240] [further options of npm run bench, for example --memory 100 …]
# Writes FOLDER/<adapter>-<tier>.json with the table and the tuning beside it. Draw it with: npm run bench -- --show FILE --svg FILE.svg
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-bench/results}
seconds=${2:-240}
shift $(( $# < 2 ? $# : 2 ))
status=0
for tier in stock fast; do
  node --import tsx bench/main.ts --tier "$tier" --tune --budget "$seconds" --out "$folder" "$@" || status=$?
done
exit $status
