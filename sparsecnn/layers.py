"""Sparse convolution and pooling.

Uhrig, Schneider, Schneider, Franke, Brox, Geiger, "Sparsity Invariant CNNs", 3DV 2017, https://arxiv.org/abs/1708.06500

A feature map x comes with one validity mask o for all its channels (1 = observed, 0 = missing). At every location the
layer sums over the observed pixels of its window, divides by how many there were, and adds the bias; the new mask says
whether there were any (the paper's equations 1 and 2):

    f(x, o) = sum_ij o_ij x_ij w_ij / (sum_ij o_ij + eps) + b          f_o(o) = max_ij o_ij

Nothing in this file knows of the report's networks or data sets.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SparseConv2d", "SparseMaxPool2d", "sparse_conv2d"]


def sparse_conv2d(
    features: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor]:
    """Sparse convolution of ``features`` under ``mask``; the functional form of :class:`SparseConv2d`.

    Args:
        features: N x C x H x W, floating point. What lies under a 0 of the mask never matters, be it NaN.
        mask: N x 1 x H x W or 1 x 1 x H x W, bool or number; 0 = missing, anything else = observed.
        weight: D x C x K x L.
        bias: D, or None.
        stride, padding, dilation: as in :func:`torch.nn.functional.conv2d`.
        eps: the paper's guard against dividing by zero, added to the count of observed pixels.

    Returns:
        Features N x D x H' x W', and the mask of the locations that saw an observed pixel, in the dtype and with the
        batch size of the mask that came in. A location that saw none holds exactly the bias (0 without one).

    Raises:
        ValueError: where shapes don't fit, the message names both; and for any other argument that is not allowed.
    """
    _check_shapes(features, mask)
    _check_geometry(stride=stride, padding=padding, dilation=dilation)
    _check_eps(eps)
    if weight.dim() != 4 or weight.shape[1] != features.shape[1]:
        raise ValueError(
            f"weight {tuple(weight.shape)} does not fit features {tuple(features.shape)}: "
            "expected D x C x K x L with the features' C"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias {tuple(bias.shape)} does not fit weight {tuple(weight.shape)}: expected its D numbers")
    _check_window(features, weight, stride, padding, dilation)
    observed = mask.bool()
    sums = _convolve(keep_observed(features, observed), weight, stride, padding, dilation)
    scale, seen = window_scale(observed, weight.shape[2:], stride, padding, dilation, eps, features.dtype)
    scale = scale.to(sums.dtype)
    if bias is None:
        return sums * scale, seen.to(mask.dtype)
    return _normalise(sums, scale, bias.to(sums.dtype)), seen.to(mask.dtype)


class SparseConv2d(nn.Conv2d):
    """The paper's sparse convolution; weights, initialisation and state_dict are those of :class:`torch.nn.Conv2d`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, bias: as in Conv2d; ``padding`` is a number,
            a pair or "same".
        eps: added to the count of observed pixels; at least 0.

    ``features, mask = layer(features, mask)`` with the shapes of :func:`sparse_conv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        eps: float = 1e-8,
    ):
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not _is_count(channels, least=1):
                raise ValueError(f"{name}={channels!r} is not allowed: a whole number of at least 1")
        _check_geometry(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
        _check_eps(eps)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self.eps = eps

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return sparse_conv2d(features, mask, self.weight, self.bias, self.stride, self.padding, self.dilation, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, eps={self.eps}"


class SparseMaxPool2d(nn.Module):
    """Max-pooling of features and mask together: the maximum over the *observed* pixels of each window.

    Where a window has no observed pixel the features are 0 and the mask stays 0. Arguments as in
    :class:`torch.nn.MaxPool2d`; ``features, mask = pool(features, mask)`` with N x C x H x W features and an
    N x 1 x H x W mask (broadcast over the batch allowed), whose dtype is kept.
    """

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1):
        super().__init__()
        stride = kernel_size if stride is None else stride
        _check_geometry(kernel_size=kernel_size, stride=stride, dilation=dilation)
        number = _is_count(padding, least=0) or _is_pair(padding, least=0)
        if not number or any(n > size // 2 for n, size in zip(_pair(padding), _pair(kernel_size), strict=True)):
            raise ValueError(f"padding={padding!r} is not allowed: at most half of kernel_size={kernel_size!r}")
        self.window = (kernel_size, stride, padding, dilation)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        _check_shapes(features, mask)
        observed = mask != 0
        pooled = F.max_pool2d(torch.where(observed, features, -torch.inf), *self.window)
        seen = F.max_pool2d(observed.to(features.dtype), *self.window) > 0
        return torch.where(seen, pooled, 0), seen.to(mask.dtype)

    def extra_repr(self) -> str:
        return "kernel_size={}, stride={}, padding={}, dilation={}".format(*self.window)


def keep_observed(features: Tensor, observed: Tensor) -> Tensor:
    """``features`` where ``observed`` (bool, broadcast), 0 elsewhere, for the gradient too; NaN and inf do not pass."""
    if _takes_pytorchs_own(features):
        return torch.where(observed, features, 0)
    if observed.all():  # as is common behind a first layer; to find out costs nothing beside a copy of the features
        return features
    # -1 is all ones in two's complement.
    return _BitMask.apply(features, -observed.to(INTEGER[features.element_size()]))


def _takes_pytorchs_own(features: Tensor) -> bool:
    """Whether PyTorch's own operations are to do what functions of this file do faster on the CPU: on other devices, in
    the compiler, and where they are transformed."""
    return features.device.type != "cpu" or torch.compiler.is_compiling() or _is_transformed(features)


def _is_transformed(features: Tensor) -> bool:
    """Whether torch.func, vmap or forward-mode differentiation are at work, which don't see into functions of ours."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_legacy_batchedtensor(features)  # autograd.grad(is_grads_batched=True)
        or torch.autograd.forward_ad._current_level >= 0
    )


INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


class _BitMask(torch.autograd.Function):
    """``torch.where(observed, features, 0)`` by a bitwise and with all ones where observed, which PyTorch vectorises on
    the CPU as it does not vectorise ``where`` with a broadcast condition: about ten times faster there."""

    @staticmethod
    def forward(ctx, features: Tensor, ones: Tensor) -> Tensor:
        ctx.save_for_backward(ones)
        return (features.view(ones.dtype) & ones).view(features.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (ones,) = ctx.saved_tensors
        if _takes_pytorchs_own(gradient):
            return torch.where(ones.bool(), gradient, 0), None
        return _BitMask.apply(gradient, ones), None


@torch.no_grad()
def window_scale(
    observed: Tensor, kernel: tuple[int, int], stride, padding, dilation, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What the sum over each window is multiplied by, 1 / (its observed pixels + eps), and whether it has any.

    ``dtype`` is that of the features; the scale is in float32 at least, in which 1e-8 does not vanish.
    """
    if observed.device.type == "cpu" and torch.compiler.is_compiling():
        # The compiler would work a sum out again for every channel; a convolution it leaves whole. Exact to 2 ** 24.
        with torch.autocast("cpu", enabled=False):
            count = F.conv2d(observed.float(), torch.ones(1, 1, *kernel), None, stride, padding, dilation)
    else:
        # The smallest whole numbers that hold a count: they are what takes time here.
        counts = torch.uint8 if kernel[0] * kernel[1] <= 255 else torch.int32
        count = _window_sum(observed.to(counts), kernel, _pair(stride), padding, _pair(dilation))
    # An empty window's sum is 0, so there any finite number will do, and 1e8 would be none in float16.
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    return count.clamp(min=1).to(exact).add_(eps).reciprocal_(), count.bool()


def _convolve(features: Tensor, weight: Tensor, stride, padding, dilation) -> Tensor:
    """conv2d without bias. For 1 x 1 windows in channels_last on the CPU it is the matrix product that it amounts to,
    which takes a third of the time there when channels are few."""
    one_by_one = weight.shape[2:] == (1, 1) and _pair(stride) == (1, 1) and padding in (0, (0, 0), "same", "valid")
    if one_by_one and features.device.type == "cpu" and _is_channels_last(features):
        pixels = features.permute(0, 2, 3, 1)
        if len(weight) == 1:  # by a vector, whose gradient is cheaper
            return torch.matmul(pixels, weight.flatten()).unsqueeze(1)
        return torch.matmul(pixels, weight.flatten(1).t()).permute(0, 3, 1, 2)
    return F.conv2d(features, weight, None, stride, padding, dilation)


def _normalise(sums: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """``sums * scale + bias``, a bias a channel; ``sums`` is not to be used any more."""
    if _takes_pytorchs_own(sums):
        return torch.addcmul(bias.view(-1, 1, 1), sums, scale)
    return _NormaliseInPlace.apply(sums, scale, bias)


class _NormaliseInPlace(torch.autograd.Function):
    """On the CPU a feature map in fresh memory costs more than the arithmetic."""

    @staticmethod
    def forward(ctx, sums: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        ctx.mark_dirty(sums)
        if not _is_slow_to_broadcast(sums):
            return torch.addcmul(bias.view(-1, 1, 1), sums, scale, out=sums)
        rows = _rows(sums)
        torch.addcmul(bias.repeat(sums.shape[3]), rows, _rows(scale.expand_as(sums)), out=rows)
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor]:
        (scale,) = ctx.saved_tensors
        of_bias = gradient.sum(dim=(0, 2, 3))
        if not _is_slow_to_broadcast(gradient):
            return gradient * scale, None, of_bias
        rows = _rows(gradient) * _rows(scale.expand_as(gradient))
        return rows.view(gradient.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), None, of_bias


def _is_slow_to_broadcast(features: Tensor) -> bool:
    """In 16 bits PyTorch's arithmetic on the CPU is vectorised only where its operands lie alike along the innermost
    axis: with one scale for all channels of a pixel, which are that axis in channels_last, it takes ten times as long
    as with a copy for each."""
    return features.element_size() == 2 and _is_channels_last(features)


def _is_channels_last(features: Tensor) -> bool:
    """False where they are transformed, where it can't be asked."""
    if not torch.compiler.is_compiling() and _is_transformed(features):
        return False
    return features.is_contiguous(memory_format=torch.channels_last)


def _rows(features: Tensor) -> Tensor:
    """N x C x H x W as N H x W C: a view of what is in channels_last."""
    return features.permute(0, 2, 3, 1).flatten(0, 1).flatten(1)


def _window_sum(image: Tensor, kernel: tuple[int, int], stride, padding, dilation) -> Tensor:
    """Sum over each window of a convolution with that geometry; rows first, then columns, since a box separates."""
    reach = [apart * (size - 1) for size, apart in zip(kernel, dilation, strict=True)]
    if padding == "same":
        (top, left), (bottom, right) = (n // 2 for n in reach), (n - n // 2 for n in reach)
    else:
        top, left = bottom, right = (0, 0) if padding == "valid" else _pair(padding)
    image = F.pad(image, (left, right, top, bottom))
    for axis, size, step, apart in zip((2, 3), kernel, stride, dilation, strict=True):
        image = _sliding_sum(image, axis, size, apart)
        if step > 1:
            image = image[:, :, ::step] if axis == 2 else image[..., ::step]
    return image


def _sliding_sum(image: Tensor, axis: int, size: int, apart: int) -> Tensor:
    """Sums of ``size`` neighbours along an axis, each ``apart`` from the next, from sums of 1, 2, 4, ... of them."""
    places = image.shape[axis] - apart * (size - 1)
    parts, taken, width = [], 0, 1
    while taken < size:
        if size & width:
            parts.append(image.narrow(axis, taken * apart, places))
            taken += width
        if taken < size:
            pairs = image.shape[axis] - width * apart
            image = image.narrow(axis, 0, pairs) + image.narrow(axis, width * apart, pairs)
            width *= 2
    return functools.reduce(torch.add, parts)


def _check_shapes(features: Tensor, mask: Tensor) -> None:
    if not features.is_floating_point():
        raise ValueError(f"features of dtype {features.dtype} are not allowed: floating point")
    fits = (
        features.dim() == mask.dim() == 4
        and mask.shape[0] in (1, features.shape[0])
        and mask.shape[1] == 1
        and mask.shape[2:] == features.shape[2:]
    )
    if not fits:
        raise ValueError(
            f"mask {tuple(mask.shape)} does not fit features {tuple(features.shape)}: "
            "expected features N x C x H x W and a mask N x 1 x H x W or 1 x 1 x H x W"
        )


def _check_geometry(**numbers) -> None:
    for name, value in numbers.items():
        least = 0 if name == "padding" else 1
        if name == "padding" and isinstance(value, str) and value in ("same", "valid"):
            continue
        if not (_is_count(value, least) or _is_pair(value, least)):
            words = ", 'same' or 'valid'" if name == "padding" else ""
            raise ValueError(f"{name}={value!r} is not allowed: a whole number of at least {least}, or a pair{words}")


def _check_window(features: Tensor, weight: Tensor, stride, padding, dilation) -> None:
    """What the arguments must be together, each of them allowed."""
    if padding == "same":
        if _pair(stride) != (1, 1):
            raise ValueError(f"stride={stride!r} is not allowed with padding='same': 1")
        return
    around = (0, 0) if padding == "valid" else _pair(padding)
    for size, length, pad, apart in zip(weight.shape[2:], features.shape[2:], around, _pair(dilation), strict=True):
        if length + 2 * pad < apart * (size - 1) + 1:
            raise ValueError(
                f"weight {tuple(weight.shape)} with padding={padding!r} and dilation={dilation!r} does not fit "
                f"features {tuple(features.shape)}: its window is larger than the padded image"
            )


def _check_eps(eps: float) -> None:
    if not (isinstance(eps, (int, float)) and 0 <= eps < float("inf")):
        raise ValueError(f"eps={eps!r} is not allowed: a number of at least 0")


def _is_count(value, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_pair(value, least: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_count(number, least) for number in value)


def _pair(number: int | tuple[int, int]) -> tuple[int, int]:
    return (number, number) if isinstance(number, int) else tuple(number)
