#!/bin/bash
# The first call, some seconds: wheels, MNIST, and the processes that train, which outlive the call. Those of Caltech-101
# compile their networks on drawings until the photographs are there; those of MNIST leave the others the processor.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
mkdir -p "$GPU_ROOT"/{code,data,mps,store/results}
over=$(($(date +%s) + ${SECONDS_IN_ALL:-815}))
echo $over > "$GPU_ROOT/over"
echo $((over - ${SECONDS_TO_MEASURE:-215})) > "$GPU_ROOT/until"
cp -r sparsecnn benchmarks "$GPU_ROOT/code"
cp -r results/runs "$GPU_ROOT/store/results"
wheels=(build/gpu0/*.whl)
install=("$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$GPU_ROOT/site")
[ ${#wheels[@]} = 0 ] || "${install[@]}" "${wheels[@]}" || exit 3
"$PYTHON" benchmarks/gpu/unpack.py build/gpu0 "$GPU_ROOT/data" || exit 3
[ "$GPU_DEVICE" = cpu ] || setsid nvidia-cuda-mps-control -d
cd "$GPU_ROOT/code" || exit
begin() {
  setsid nohup "$@" > "$GPU_ROOT/log.$list$i" 2>&1 < /dev/null &
  echo $! >> "$GPU_ROOT/pids"
}
train=("$PYTHON" benchmarks/gpu/runs.py --until "$GPU_ROOT/until")
for list in ${LISTS:-mask masks plain ablated as_run as_run2 as_run3 pooled pooled2 late ways filled}; do
  begin "${train[@]}" "$list" --device "$GPU_DEVICE" --go "$GPU_ROOT/go"
done
list=mnist
for i in $(seq "${MNIST_PROCESSES:-0}"); do
  OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES='' begin nice -n 19 "${train[@]}" mnist --device cpu
done
