# What every call begins with: `. benchmarks/gpu/common.sh`. $OUT is where what comes back goes, $GPU_ROOT where all else lies
# between the calls; GPU_DEVICE=cpu rehearses it without a GPU.
: "${OUT:?names the folder for what comes back}"
export PYTHON=${PYTHON:-python3} GPU_DEVICE=${GPU_DEVICE:-cuda} GPU_ROOT=${GPU_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/sparsecnn-gpu}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TQDM_DISABLE=1 PYTHONPATH=$GPU_ROOT/code:$GPU_ROOT/site
export SPARSECNN_DATA=$GPU_ROOT/data SPARSECNN_OUTPUT=$GPU_ROOT/store
export JUPYTER_PATH=$GPU_ROOT/site/share/jupyter
# Processes share what they compile, and by MPS the GPU.
export TORCHINDUCTOR_CACHE_DIR=$GPU_ROOT/inductor TORCHINDUCTOR_COMPILE_THREADS=3 TORCHINDUCTOR_DETERMINISTIC=1
export CUDA_MPS_PIPE_DIRECTORY=$GPU_ROOT/mps CUDA_MPS_LOG_DIRECTORY=$GPU_ROOT/mps
shopt -s nullglob
install() { # wheels, if there are any
  [ $# = 0 ] || "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$GPU_ROOT/site" "$@"
}
