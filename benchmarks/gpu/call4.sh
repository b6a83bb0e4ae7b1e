#!/bin/bash
# The last call, and the end of the third: waits until the time is over, or for $WAIT seconds; the new rows and the logs are
# brought into $OUT meanwhile.
cd "$(dirname "$0")/../.." || exit
. benchmarks/gpu/common.sh
bring() {
  "$PYTHON" benchmarks/gpu/bring.py "$OUT"
  cat "$GPU_ROOT"/log.* > "$OUT/log.txt"
}
while [ $SECONDS -lt "${WAIT:-600}" ] && [ "$(date +%s)" -lt "$(cat "$GPU_ROOT/until")" ]; do
  sleep 3
  [ $((SECONDS / 60)) = "$minute" ] && continue
  minute=$((SECONDS / 60))
  bring
  [ "$GPU_DEVICE" = cpu ] || nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader
  tail -qn 1 "$GPU_ROOT"/log.*
done
bring
grep -h -E "ready|twice|FAILED" "$OUT/log.txt"
