"""Sparsity Invariant CNNs: layers that know of missing pixels, the experiments with them and their analysis."""

from .layers import *  # noqa: F403
from .layers import __all__ as _layers
from .models import ConvNet, ConvNetMask, SparseConvNet

# What needs more than torch is imported where it is asked for.
_LATER = {
    "SparseDataset": ".data.sparse_dataset",
    "load_pretrained": ".training.pretrained",
}
__all__ = [*_layers, *_LATER, "ConvNet", "ConvNetMask", "SparseConvNet"]


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_LATER[name], __name__), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs more than torch ({error}): pip install 'sparsecnn[report]'") from error
