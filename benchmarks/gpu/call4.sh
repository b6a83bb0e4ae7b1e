#!/bin/bash
# The last call: the speed of what nobody has measured on a GPU, when all is trained and nothing runs beside it.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
WAIT=${WAIT:-120} bash benchmarks/gpu/wait.sh
kill -- $(cat "$GPU_ROOT/groups") 2> /dev/null
install build/gpu3/*.whl
mkdir -p "$OUT/results"
cp results/benchmarks_gpu.csv "$OUT/results"
cp -r conftest.py notebooks tests results pyproject.toml "$GPU_ROOT/code"
cd "$GPU_ROOT/code" || exit
for part in ${PARTS:-papermill steps tests}; do
  left=$(($(cat "$GPU_ROOT/over") - $(date +%s)))
  [ $left -gt 10 ] || break
  SPARSECNN_OUTPUT=$OUT timeout $left "$PYTHON" benchmarks/gpu/measure.py ${MEASURE:---parts} $part
done
