"""Sparse convolution, and what a network of it is built from.

Uhrig, Schneider, Schneider, Franke, Brox, Geiger, "Sparsity Invariant CNNs", 3DV 2017, https://arxiv.org/abs/1708.06500

A feature map x comes with one validity mask o for all its channels (1 = observed, 0 = missing). At every location the
layer sums over the observed pixels of its window, divides by how many there were, and adds the bias; the new mask says
whether there were any (the paper's equations 1 and 2):

    f(x, o) = sum_ij o_ij x_ij w_ij / (sum_ij o_ij + eps) + b          f_o(o) = max_ij o_ij

Nothing in this folder knows of the report's networks or data sets, or needs more than torch.
"""

from .arithmetic import keep_observed
from .conversion import masks_through
from .convolution import (
    SparseConv1d,
    SparseConv2d,
    SparseConv3d,
    SparseConvTranspose1d,
    SparseConvTranspose2d,
    SparseConvTranspose3d,
)
from .counting import window_scale
from .functional import (
    sparse_conv1d,
    sparse_conv2d,
    sparse_conv3d,
    sparse_conv_transpose1d,
    sparse_conv_transpose2d,
    sparse_conv_transpose3d,
)
from .normalisation import SparseBatchNorm1d, SparseBatchNorm2d, SparseBatchNorm3d
from .pooling import (
    SparseAdaptiveAvgPool1d,
    SparseAdaptiveAvgPool2d,
    SparseAdaptiveAvgPool3d,
    SparseAvgPool1d,
    SparseAvgPool2d,
    SparseAvgPool3d,
    SparseMaxPool1d,
    SparseMaxPool2d,
    SparseMaxPool3d,
)

__all__ = [
    "SparseAdaptiveAvgPool1d",
    "SparseAdaptiveAvgPool2d",
    "SparseAdaptiveAvgPool3d",
    "SparseAvgPool1d",
    "SparseAvgPool2d",
    "SparseAvgPool3d",
    "SparseBatchNorm1d",
    "SparseBatchNorm2d",
    "SparseBatchNorm3d",
    "SparseConv1d",
    "SparseConv2d",
    "SparseConv3d",
    "SparseConvTranspose1d",
    "SparseConvTranspose2d",
    "SparseConvTranspose3d",
    "SparseMaxPool1d",
    "SparseMaxPool2d",
    "SparseMaxPool3d",
    "keep_observed",
    "masks_through",
    "sparse_conv1d",
    "sparse_conv2d",
    "sparse_conv3d",
    "sparse_conv_transpose1d",
    "sparse_conv_transpose2d",
    "sparse_conv_transpose3d",
    "window_scale",
]
