#!/bin/bash
# The third call, ten minutes, at once after the second: the other half of the photographs, which lets the processes go.
# Nothing is trained where the decoded pixels are not those of the CPU's runs: other decoders decode otherwise.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
"$PYTHON" benchmarks/gpu/unpack.py build/gpu2 "$GPU_ROOT/data" || exit 3
cd "$GPU_ROOT/code" || exit
"$PYTHON" -c 'from sparsecnn.data.datasets import load; load("caltech101")' 2>&1 | tail -c 100
ls build/cache
ls build/cache | grep -q -- "-${PIXELS:-cdaac2e5}.npy" || { echo "the decoded pixels differ from the CPU's"; exit 6; }
touch "$GPU_ROOT/go"
WAIT=$((${WAIT:-586} - SECONDS)) bash benchmarks/gpu/wait.sh
