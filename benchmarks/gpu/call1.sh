#!/bin/bash
# The first call, 200 s: half of the photographs, then what `make gpu` measures, but for compiling; no run where the smoke
# or a test fails. In the root of a tree that needs no git; what is to come back goes into $OUT.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh build/gpu1
export SPARSECNN_OUTPUT=$OUT
mkdir -p "$GPU_ROOT/digits" && ln -sfn "$GPU_ROOT/data/MNIST" "$GPU_ROOT/digits/MNIST"
export SPARSECNN_DATA=$GPU_ROOT/digits # half of Caltech-101 is no data set
step smoke
limit 60 "$PYTHON" benchmarks/gpu/measure.py $MINIATURE --parts smoke 2>&1 | tee "$OUT/smoke.txt"
[ "${PIPESTATUS[0]}" = 0 ] || exit 4
step tests
limit 75 "$PYTHON" benchmarks/gpu/measure.py $MINIATURE --parts tests 2>&1 | tee "$OUT/tests.txt"
[ "${PIPESTATUS[0]}" = 0 ] || exit 5
step speed
limit 90 "$PYTHON" benchmarks/gpu/measure.py $MINIATURE --parts machine convolutions steps ensembles 2>&1 |
  tee "$OUT/speed.txt"
step done
