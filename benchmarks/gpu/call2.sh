#!/bin/bash
# The second call, 560 s, at once after the first: the other half of the photographs, one papermill call as a user types it,
# then runs until $MINUTES are over, in $WORKERS processes that share the GPU. The rows come back in $OUT.
cd "$(dirname "$0")/../.." || exit
MINUTES=${MINUTES:-8.6}
. benchmarks/gpu/common.sh build/gpu2
export SPARSECNN_DATA=$GPU_ROOT/data
"$PYTHON" -c 'from sparsecnn.data.datasets import load; load("caltech101")' 2>&1 | tail -c 100
ls build/cache
# The pixels that the CPU's runs saw: other decoders decode otherwise.
ls build/cache | grep -q -- "-$PIXELS.npy" || { echo "the decoded pixels differ from the CPU's"; exit 6; }
( while sleep 10; do cp results/runs/caltech101_*.csv "$OUT"; done ) & copying=$!
trap 'kill $copying; cp results/runs/caltech101_*.csv "$OUT"' EXIT
step papermill
( cd notebooks && limit 120 "$PYTHON" -m papermill 03_caltech.ipynb "$OUT/03_caltech_gpu.ipynb" --no-progress-bar \
  ${PAPERMILL:--p sparsity 0.3 -p protocol as_run -p seeds 3} 2>&1 | tail -3 )
step runs
left=$("$PYTHON" -c "print(max(0.1, $MINUTES - $SECONDS / 60))")
"$PYTHON" benchmarks/gpu/runs.py caltech $MINIATURE --minutes "$left" --workers "${WORKERS:-2}" 2>&1
step done
wc -l results/runs/caltech101_*.csv
