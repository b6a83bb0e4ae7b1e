#!/bin/bash
# What the third call ends with: waits until nobody trains any more, or for $WAIT seconds; the files of results/runs/ with
# new rows and the logs are brought into $OUT meanwhile.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
bring() {
  for file in "$SPARSECNN_OUTPUT"/results/runs/*_*.csv; do
    cmp -s "$file" "results/runs/${file##*/}" || cp "$file" "$OUT"
  done
  cat "$GPU_ROOT"/log.* > "$OUT/log.txt"
}
training() { grep -L '^done$' "$GPU_ROOT"/log.*; }
while [ $SECONDS -lt "${WAIT:-600}" ] && [ "$(training)" ]; do
  sleep 3
  [ $((SECONDS / 60)) = "$minute" ] && continue
  minute=$((SECONDS / 60))
  bring
  [ "$GPU_DEVICE" = cpu ] || nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader
  tail -qn 1 "$GPU_ROOT"/log.*
done
bring
grep -h -E "ready|twice|FAILED" "$OUT/log.txt"
