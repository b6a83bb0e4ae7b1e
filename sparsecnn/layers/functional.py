"""The paper's equations as functions, and their like for transposed convolution and pooling."""

import functools
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

from . import arguments
from .arithmetic import convolve, keep_observed, normalise
from .counting import TRANSPOSE, edges_of, flat, transposed_scale, window_scale

CONVOLUTION = """Sparse convolution of ``features`` under ``mask``; the functional form of :class:`SparseConv{n}d`.

    Args:
        features: N x C{axes}, floating point, or one image without N. What lies under a 0 of the mask never
            matters, be it NaN.
        mask: N x 1{axes} or 1 x 1{axes}, bool or number; 0 = missing, any other whole number =
            observed; with C channels instead of 1 each channel has its own. None: all observed.
        weight: D x C / groups x {kernel}.
        bias: D, or None.
        stride, padding, dilation, groups: as in :func:`torch.nn.functional.conv{n}d`.
        eps: the paper's guard against dividing by zero, added to the count of observed pixels.
        scale: "count", the paper's: each sum is divided by the number of observed pixels. "window": by the share of the
            window that is observed, so that a full window gives what a plain convolution does.
        padding_observed: padding counts as observed zeros, not as missing as in the paper.
        padding_mode: "zeros", or "reflect", "replicate", "circular", where padding is copies of pixels, each observed
            where its pixel is.

    Returns:
        Features N x D{out}, and the mask of the locations that saw an observed pixel, in the dtype (bool for
        None) and with the batch size of the mask that came in. A location that saw none holds exactly the bias (0
        without one). Under a mask of C channels a count is the mean over the channels of a group; the mask that comes
        out then has D channels, or one where ``groups`` is 1, since all of them see the same.

    Raises:
        ValueError: where shapes, dtypes or devices don't fit, the message names both; and for any other argument that
            is not allowed, a floating mask that requires a gradient or holds a fraction among them. Values are not
            looked at in the compiler, in tracing and under torch.func; those of a bool mask never.
    """

TRANSPOSED = """Sparse transposed convolution; the functional form of :class:`SparseConvTranspose{n}d`.

    The window of a location are the pixels that reach it. Their number depends on where the location lies between two
    steps of the stride; ``scale`` "window" divides by the share of them that is observed. Where a stride leaves
    locations that no pixel reaches, they hold the bias, and are observed only with ``padding_observed``.

    Args:
        weight: C x D / groups x {kernel}.
        stride, padding, output_padding, groups, dilation: as in :func:`torch.nn.functional.conv_transpose{n}d`.
        features, mask, bias, eps, scale, padding_observed: as in :func:`sparse_conv{n}d`.

    Returns and raises what :func:`sparse_conv{n}d` does.
    """


def overridable(function: Callable) -> Callable:
    """As PyTorch's own functions are: torch.fx's proxies and subclasses of Tensor take a call over."""

    @functools.wraps(function)
    def call(*args, **keywords):
        given = (*args, *keywords.values())
        if has_torch_function(given):
            return handle_torch_function(call, given, *args, **keywords)
        if torch.jit.is_tracing():
            with warnings.catch_warnings():  # that numbers of channels and a kernel's size stay as they were traced
                warnings.simplefilter("ignore", torch.jit.TracerWarning)
                return function(*args, **keywords)
        return function(*args, **keywords)

    return call


class MaskedLayer(nn.Module):
    """A module whose call takes and gives features and mask."""

    def __prepare_scriptable__(self):
        raise RuntimeError(
            f"{type(self).__name__} can't be scripted: torch.compile, torch.export and torch.jit.trace do"
        )


def _named(function: Callable, name: str, doc: str, dims: int) -> Callable:
    axes, kernel = arguments.AXES[dims], " x ".join("KLM"[:dims])
    out = axes.replace("D x", "D' x").replace("L", "L'").replace("H", "H'").replace("W", "W'")
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc.format(n=dims, axes=axes, out=out, kernel=kernel)
    return overridable(function)


def _convolution(dims: int) -> Callable:
    def sparse_conv(
        features: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        eps: float = 1e-8,
        scale: str = "count",
        padding_observed: bool = False,
        padding_mode: str = "zeros",
    ) -> tuple[Tensor, Tensor]:
        arguments.check_tensors(features, mask, dims)
        stride = arguments.whole_numbers("stride", stride, dims, 1)
        padding = arguments.padding_of(padding, dims, stride)
        dilation = arguments.whole_numbers("dilation", dilation, dims, 1)
        groups, eps = arguments.whole("groups", groups, 1), arguments.eps_of(eps)
        arguments.check_choices(scale, padding_observed, padding_mode)
        arguments.check_weight(features, weight, dims, groups, "D x C / groups")
        if features.dim() == dims + 1:
            return unbatched(
                call, features, mask, weight, bias, stride, padding, dilation, groups,
                eps=eps, scale=scale, padding_observed=padding_observed, padding_mode=padding_mode,
            )  # fmt: skip
        arguments.check_parameters(features, weight, bias, weight.shape[1] * groups, weight.shape[0])
        edges = edges_of(tuple(weight.shape[2:]), padding, dilation)
        arguments.check_window(features, weight, padding, edges, dilation, padding_mode)
        observed = arguments.observed_of(features, mask, dims)
        features = keep_observed(features, observed)
        if padding_mode != "zeros":
            features = F.pad(features, flat(edges), padding_mode)
            observed = F.pad(observed.float(), flat(edges), padding_mode).bool()
            padding = (0,) * dims
        sums = convolve(features, weight, stride, padding, dilation, groups)
        factor, seen = window_scale(
            observed, tuple(weight.shape[2:]), stride, padding, dilation, eps, features.dtype,
            scale, padding_observed, groups,
        )  # fmt: skip
        return _finish(sums, factor, seen, bias, mask)

    call = _named(sparse_conv, f"sparse_conv{dims}d", CONVOLUTION, dims)
    return call


def _transposed(dims: int) -> Callable:
    def sparse_conv_transpose(
        features: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
        *,
        eps: float = 1e-8,
        scale: str = "count",
        padding_observed: bool = False,
    ) -> tuple[Tensor, Tensor]:
        arguments.check_tensors(features, mask, dims)
        stride = arguments.whole_numbers("stride", stride, dims, 1)
        padding = arguments.whole_numbers("padding", padding, dims, 0)
        output_padding = arguments.whole_numbers("output_padding", output_padding, dims, 0)
        dilation = arguments.whole_numbers("dilation", dilation, dims, 1)
        groups, eps = arguments.whole("groups", groups, 1), arguments.eps_of(eps)
        arguments.check_choices(scale, padding_observed)
        arguments.check_output_padding(output_padding, stride, dilation)
        arguments.check_weight(features, weight, dims, groups, "C x D / groups")
        if features.dim() == dims + 1:
            return unbatched(
                call, features, mask, weight, bias, stride, padding, output_padding, groups, dilation,
                eps=eps, scale=scale, padding_observed=padding_observed,
            )  # fmt: skip
        arguments.check_parameters(features, weight, bias, weight.shape[0], weight.shape[1] * groups)
        kernel = tuple(weight.shape[2:])
        arguments.check_room(features, kernel, stride, padding, output_padding, dilation)
        observed = arguments.observed_of(features, mask, dims)
        sums = TRANSPOSE[dims](
            keep_observed(features, observed), weight, None, stride, padding, output_padding, groups, dilation
        )
        factor, seen = transposed_scale(
            observed, kernel, stride, padding, output_padding, dilation, eps, features.dtype,
            scale, padding_observed, groups,
        )  # fmt: skip
        return _finish(sums, factor, seen, bias, mask)

    call = _named(sparse_conv_transpose, f"sparse_conv_transpose{dims}d", TRANSPOSED, dims)
    return call


def unbatched(function: Callable, features: Tensor, mask: Tensor | None, *args, **keywords) -> tuple[Tensor, Tensor]:
    mask = None if mask is None else mask.unsqueeze(0)
    features, seen = function(features.unsqueeze(0), mask, *args, **keywords)
    return features.squeeze(0), seen.squeeze(0)


def _finish(
    sums: Tensor, factor: Tensor, seen: Tensor, bias: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    if factor.shape[1] > 1:  # from one a group to one a channel
        each = sums.shape[1] // factor.shape[1]
        factor, seen = factor.repeat_interleave(each, 1), seen.repeat_interleave(each, 1)
    bias = None if bias is None else bias.to(sums.dtype)
    return normalise(sums, factor.to(sums.dtype), bias), seen.to(torch.bool if mask is None else mask.dtype)


sparse_conv1d, sparse_conv2d, sparse_conv3d = map(_convolution, (1, 2, 3))
sparse_conv_transpose1d, sparse_conv_transpose2d, sparse_conv_transpose3d = map(_transposed, (1, 2, 3))
