#!/bin/bash
# The first call, some seconds: wheels, MNIST, and the processes that train, which outlive the call. Those of Caltech-101
# compile their networks on drawings until the photographs are there; MNIST's begin at once.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
mkdir -p "$GPU_ROOT"/{code,data,mps,store/results}
over=$(($(date +%s) + ${SECONDS_IN_ALL:-815}))
echo $over > "$GPU_ROOT/over"
echo $((over - ${SECONDS_TO_MEASURE:-215})) > "$GPU_ROOT/until"
cp -r sparsecnn benchmarks "$GPU_ROOT/code"
cp -r results/runs "$GPU_ROOT/store/results"
install build/gpu0/*.whl || exit 3
"$PYTHON" benchmarks/gpu/unpack.py build/gpu0 "$GPU_ROOT/data" || exit 3
[ "$GPU_DEVICE" = cpu ] || setsid nvidia-cuda-mps-control -d
cd "$GPU_ROOT/code" || exit
begin() {
  setsid nohup bash -c '"$@"; echo done' "$i" "$PYTHON" "$@" --device "$GPU_DEVICE" > "$GPU_ROOT/log.$i" 2>&1 < /dev/null &
  echo -$! >> "$GPU_ROOT/groups"
}
processes=${PROCESSES:-11}
for i in $(seq 0 $((processes - 1))); do
  begin benchmarks/gpu/runs.py "$i" --of "$processes" --until "$GPU_ROOT/until" --go "$GPU_ROOT/go"
done
i=mnist
minutes=$((($(cat "$GPU_ROOT/until") - $(date +%s)) / 60))
begin -m sparsecnn.sweep --dataset mnist --workers 1 --minutes $minutes
