"""Pooling of features and mask together, over observed places only."""

from inspect import cleandoc

import torch
import torch.nn.functional as F
from torch import Tensor

from . import arguments
from .functional import MaskedLayer, overridable

MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_AVG_POOL = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}

SHAPES = """

``features, mask = pool(features, mask)`` with features N x C{axes} (or one image without N) and a mask of one
channel, or as many as the features, that may be broadcast over the batch; its dtype is kept. None: all observed.
Where a window has no observed pixel the features are 0 and the mask stays 0.

Raises:
    ValueError: for what is not allowed, in one line.
"""


def _documented(cls: type) -> type:
    """With its kind's text, in which {n} is the number of axes, and what all of them take and give."""
    if (text := cls.__base__.__doc__) is not None:  # python -OO has no docstrings
        # Python 3.13 takes the indentation from docstrings, earlier ones leave it.
        cls.__doc__ = cleandoc(text).format(n=cls.dims) + SHAPES.format(axes=arguments.AXES[cls.dims])
    return cls


class _SparseMaxPool(MaskedLayer):
    """Max-pooling over the observed places of each window; arguments as in :class:`torch.nn.MaxPool{n}d`."""

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices=False, ceil_mode=False):
        super().__init__()
        self.kernel_size, self.stride, self.padding = _window(kernel_size, stride, padding, self.dims)
        self.dilation = arguments.whole_numbers("dilation", dilation, self.dims, 1)
        arguments.one_of("return_indices", return_indices, (False,))
        arguments.one_of("ceil_mode", ceil_mode, (True, False))
        self.ceil_mode = ceil_mode

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        window = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return _max_pool(features, mask, self.dims, window)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class _SparseAvgPool(MaskedLayer):
    """Mean over the observed places of each window; arguments as in :class:`torch.nn.AvgPool{n}d`, where
    ``count_include_pad`` has padding count as observed zeros."""

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        super().__init__()
        self.kernel_size, self.stride, self.padding = _window(kernel_size, stride, padding, self.dims)
        for name, value in (("ceil_mode", ceil_mode), ("count_include_pad", count_include_pad)):
            arguments.one_of(name, value, (True, False))
        arguments.one_of("divisor_override", divisor_override, (None,))
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return _avg_pool(features, mask, self.dims, window)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class _SparseAdaptiveAvgPool(MaskedLayer):
    """Mean over the observed places of each window; ``output_size`` as in :class:`torch.nn.AdaptiveAvgPool{n}d`. 1 is
    global average pooling under a mask."""

    def __init__(self, output_size):
        super().__init__()
        many = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self.dims
        try:
            self.output_size = tuple(n if n is None else arguments.whole("output_size", n, 1) for n in many)
        except ValueError:
            self.output_size = ()
        if len(self.output_size) != self.dims:
            words = "a whole number of at least 1 or None" + f", or {self.dims} of them" * (self.dims > 1)
            raise ValueError(f"output_size={output_size!r} is not allowed: {words}")

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return _adaptive_avg_pool(features, mask, self.dims, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


def _window(kernel_size, stride, padding, dims: int) -> tuple:
    kernel = arguments.whole_numbers("kernel_size", kernel_size, dims, 1)
    # PyTorch's functions take an empty tuple, too, for none.
    stride = kernel if stride is None or stride == () else arguments.whole_numbers("stride", stride, dims, 1)
    try:
        around = arguments.whole_numbers("padding", padding, dims, 0)
    except ValueError:
        around = kernel
    if any(n > size // 2 for n, size in zip(around, kernel, strict=True)):
        raise ValueError(f"padding={padding!r} is not allowed: at most half of kernel_size={kernel_size!r}")
    return kernel, stride, around


@overridable
def _max_pool(features: Tensor, mask: Tensor | None, dims: int, window: tuple) -> tuple[Tensor, Tensor]:
    arguments.check_tensors(features, mask, dims)
    observed = arguments.observed_of(features, mask, dims)
    *window, ceil_mode = window
    pooled = MAX_POOL[dims](torch.where(observed, features, -torch.inf), *window, ceil_mode=ceil_mode)
    seen = MAX_POOL[dims](observed.to(features.dtype), *window, ceil_mode=ceil_mode) > 0
    return torch.where(seen, pooled, 0), seen if mask is None else seen.to(mask.dtype)


@overridable
def _avg_pool(features: Tensor, mask: Tensor | None, dims: int, window: tuple) -> tuple[Tensor, Tensor]:
    arguments.check_tensors(features, mask, dims)
    observed = arguments.observed_of(features, mask, dims)
    means = AVG_POOL[dims](torch.where(observed, features, 0), *window)
    with torch.no_grad():
        weight = observed.to(torch.float64 if features.dtype == torch.float64 else torch.float32)
        share = AVG_POOL[dims](weight, *window)
        kernel, stride, padding, ceil_mode, count_include_pad = window
        if count_include_pad and any(padding):  # zeros that are observed
            share = share + (1 - AVG_POOL[dims](torch.ones_like(weight), *window))
    return _of_observed(means, share, mask)


@overridable
def _adaptive_avg_pool(features: Tensor, mask: Tensor | None, dims: int, output_size: tuple) -> tuple[Tensor, Tensor]:
    arguments.check_tensors(features, mask, dims)
    observed = arguments.observed_of(features, mask, dims)
    means = ADAPTIVE_AVG_POOL[dims](torch.where(observed, features, 0), output_size)
    weight = observed.to(torch.float64 if features.dtype == torch.float64 else torch.float32)
    return _of_observed(means, ADAPTIVE_AVG_POOL[dims](weight, output_size), mask)


def _of_observed(means: Tensor, share: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """From means over whole windows, missing pixels counted as 0, those over the observed share of each."""
    seen = share > 0
    scale = torch.where(seen, share, 1).reciprocal().to(means.dtype)
    return means * scale, seen if mask is None else seen.to(mask.dtype)


@_documented
class SparseMaxPool1d(_SparseMaxPool):
    dims = 1


@_documented
class SparseMaxPool2d(_SparseMaxPool):
    dims = 2


@_documented
class SparseMaxPool3d(_SparseMaxPool):
    dims = 3


@_documented
class SparseAvgPool1d(_SparseAvgPool):
    dims = 1


@_documented
class SparseAvgPool2d(_SparseAvgPool):
    dims = 2


@_documented
class SparseAvgPool3d(_SparseAvgPool):
    dims = 3


@_documented
class SparseAdaptiveAvgPool1d(_SparseAdaptiveAvgPool):
    dims = 1


@_documented
class SparseAdaptiveAvgPool2d(_SparseAdaptiveAvgPool):
    dims = 2


@_documented
class SparseAdaptiveAvgPool3d(_SparseAdaptiveAvgPool):
    dims = 3
