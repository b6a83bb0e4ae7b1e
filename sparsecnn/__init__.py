"""Sparsity Invariant CNNs, applied to classification: the layer, the experiments and their analysis."""

from .data.sparse_dataset import SparseDataset
from .layers import SparseConv2d, SparseMaxPool2d, sparse_conv2d
from .models import ConvNet, ConvNetMask, SparseConvNet

__all__ = [
    "ConvNet",
    "ConvNetMask",
    "SparseConv2d",
    "SparseConvNet",
    "SparseDataset",
    "SparseMaxPool2d",
    "sparse_conv2d",
]
