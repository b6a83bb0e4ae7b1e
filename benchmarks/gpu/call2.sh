#!/bin/bash
# The second call, some seconds: half of the photographs. How the processes do so far.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
"$PYTHON" benchmarks/gpu/unpack.py build/gpu1 "$GPU_ROOT/data" || exit 3
tail -n 2 "$GPU_ROOT"/log.*
