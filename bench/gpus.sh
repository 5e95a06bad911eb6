#!/usr/bin/env bash
# Training on several GPUs, measured: each rank has its own card, the exchange by bucket size, DiS-S/2 and DiS-B/2 on one GPU and on all,
# one rank with exchange against none, then 200 steps of which a rank doesn't live to see the last. Wants Open MPI, koffi and two
# GPUs or more; needs no network.
#
#   bench/gpus.sh [FOLDER]     results go to FOLDER, by default bench/results
set -uo pipefail
out=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/results}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$out"
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT

node cli/dis-cli.mjs doctor --tier fast | sed -n '/^Adapter/,/^$/p; /^Several GPUs/,/^$/p'
node --import tsx bench/main.ts --filter exchange --out "$out" || exit

echo
echo 'One rank with exchange against none, on one GPU (at most 3 % slower is the aim):'
for precision in f32 f16; do
  mpirun $([ "$(id -u)" -ne 0 ] || echo --allow-run-as-root) -n 1 --bind-to none \
    node --import tsx bench/exchange/one.ts DiS-S/2 64 $precision || exit
done | tee "$out/exchange-one.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || exit 1

echo
echo '200 steps on two GPUs, one of which loses its process:'
node cli/dis-cli.mjs train --gpus 2 --data shapes --model DiS-S/2 --image-size 32 --batch 128 --precision f16 --tier fast \
  --steps 200 --checkpoint-every 50 --sample-every 0 --progress lines --out "$run/run" &
launcher=$!
step() { [ -f "$run/run/metrics.jsonl" ] && wc -l < "$run/run/metrics.jsonl" || echo 0; }
while kill -0 $launcher 2>/dev/null && [ "$(step)" -lt 110 ]; do sleep 0.2; done
mpirun=$(pgrep -P $launcher -x mpirun)
victim=$(pgrep -P "$mpirun" | tail -n 1)
echo "killing process $victim at step $(step)"
kill -KILL "$victim"
wait $launcher
status=$?
echo "status $status, $(step) steps"
exit $status
