#!/usr/bin/env bash
# The whole measurement of a GPU in one command: ceilings, every kernel, the steps of DiS-S/2 and DiS-B/2, in both tiers.
#   bench/gpu.sh [FOLDER=bench/results] [SECONDS_A_TIER=240] [further options of npm run bench …]
# Writes FOLDER/<adapter>-<tier>.json with a table (.txt) and a roofline (.svg) beside it.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-bench/results}
seconds=${2:-240}
shift $(( $# < 2 ? $# : 2 ))
mkdir -p "$folder"
status=0
for tier in stock fast; do
  node --import tsx bench/main.ts --tier "$tier" --budget "$seconds" --out "$folder" "$@" > "$folder/$tier.table" || status=$?
  cat "$folder/$tier.table"
done
rm -f "$folder"/*.table
exit $status
