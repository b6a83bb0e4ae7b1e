# What both calls begin with: `. benchmarks/gpu/common.sh build/gpu1` installs the wheels and unpacks the photographs.
# $OUT is where what comes back goes; MINIATURE=--miniature and SLOW=20 rehearse it on a CPU.
: "${OUT:?names the folder for what comes back}"
PYTHON=${PYTHON:-python3} GPU_ROOT=${GPU_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/sparsecnn-gpu} SLOW=${SLOW:-1} PIXELS=${PIXELS:-cdaac2e5}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD:$GPU_ROOT/site TQDM_MININTERVAL=20
export TORCHINDUCTOR_DETERMINISTIC=1 TORCH_COMPILE_DISABLE=1 # a minute of compiling is not repaid in so short a time
step() { echo "== $SECONDS s: $1"; }
limit() { timeout $(($1 * SLOW)) "${@:2}"; }
step unpack
shopt -s nullglob
wheels=("$1"/*.whl) # none where papermill is there already
install=("$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$GPU_ROOT/site")
[ ${#wheels[@]} = 0 ] || "${install[@]}" "${wheels[@]}" || exit 3
"$PYTHON" benchmarks/gpu/unpack.py "$1" "$GPU_ROOT/data" || exit 3
