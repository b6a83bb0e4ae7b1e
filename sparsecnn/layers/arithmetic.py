"""Steps of the layer that PyTorch's own operations do slowly, most of them on the CPU; elsewhere, and where a call is
recorded or transformed, they are PyTorch's own."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import is_transformed, may_look
from .counting import CONVOLVE

INTEGER = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


def _takes_pytorchs_own(features: Tensor) -> bool:
    return features.device.type != "cpu" or not may_look(features)


def keep_observed(features: Tensor, observed: Tensor) -> Tensor:
    """``features`` where ``observed`` (bool, broadcast), 0 elsewhere, for the gradient too; NaN and inf do not pass."""
    if _takes_pytorchs_own(features):
        return torch.where(observed, features, 0)
    # As is common behind a first layer; asked of bytes, since of bool PyTorch answers ten times slower.
    if observed.view(torch.uint8).all():
        return features
    return _BitMask.apply(features, -observed.view(torch.int8))  # -1 is all ones in two's complement


class _BitMask(torch.autograd.Function):
    """``torch.where(observed, features, 0)`` by a bitwise and with all ones where observed, which PyTorch vectorises on
    the CPU as it does not vectorise ``where`` with a broadcast condition: about ten times faster there."""

    @staticmethod
    def forward(ctx, features: Tensor, ones: Tensor) -> Tensor:
        ctx.save_for_backward(ones)
        # A negative that is still to be taken (that of z.conj().imag) is not yet in the bits.
        return (features.resolve_neg().view(INTEGER[features.element_size()]) & ones).view(features.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (ones,) = ctx.saved_tensors
        if _takes_pytorchs_own(gradient):
            return torch.where(ones.bool(), gradient, 0), None
        return _BitMask.apply(gradient, ones), None


def convolve(features: Tensor, weight: Tensor, stride, padding, dilation, groups: int) -> Tensor:
    """convNd without bias, in a faster way where one is known; sums differ by rounding alone."""
    if by_blocks_is_faster(features, weight, stride, padding, dilation, groups):
        return convolve_by_blocks(features, weight)
    one_by_one = weight.shape[2:] == (1, 1) and stride == (1, 1) and padding in ((0, 0), "same") and groups == 1
    if one_by_one and features.device.type == "cpu" and _is_channels_last(features):
        # As the matrix product that it amounts to: a third of the time when channels are few.
        pixels = features.permute(0, 2, 3, 1)
        if len(weight) == 1:  # by a vector, whose gradient is cheaper
            return torch.matmul(pixels, weight.flatten()).unsqueeze(1)
        return torch.matmul(pixels, weight.flatten(1).t()).permute(0, 3, 1, 2)
    return CONVOLVE[weight.dim() - 2](features, weight, None, stride, padding, dilation, groups)


def conv2d(features: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, dilation, groups: int) -> Tensor:
    """torch.nn.functional.conv2d, but for CUDA's faster way where there is one."""
    if by_blocks_is_faster(features, weight, stride, padding, dilation, groups):
        return convolve_by_blocks(features, weight, bias)
    return F.conv2d(features, weight, bias, stride, padding, dilation, groups)


def by_blocks_is_faster(features: Tensor, weight: Tensor, stride, padding, dilation, groups: int) -> bool:
    """Whether :func:`convolve_by_blocks` does the same and saves time: cuDNN is slow with few channels under a large
    window, 10.3 ms forward and back for 3 to 16 channels under 11 x 11 on an H200 in bf16, 1.9 ms by blocks."""
    if features.device.type != "cuda" or features.dim() != 4 or groups != 1 or (*stride, *dilation) != (1, 1, 1, 1):
        return False
    (channels, kernel, width), (height, columns) = weight.shape[1:], features.shape[2:]
    same = padding in ("same", (kernel // 2, kernel // 2))
    fits = kernel == width and kernel % 2 == 1 and height % 2 == columns % 2 == 0
    kind = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else features.dtype
    return same and fits and channels <= 4 and kernel >= 7 and kind.itemsize == 2 and _is_channels_last(features)


def convolve_by_blocks(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """conv2d that keeps an even height and width, of an odd square window: blocks of 2 x 2 pixels are taken as a pixel
    of four times the channels, by a window of as many blocks as reach over it. N x D x H x W, in channels_last."""
    reach = weight.shape[2] // 2
    around = (reach + 1) // 2  # blocks to either side
    spare = 2 * (2 * around + 1) - weight.shape[2]
    moved = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # of a block's pixel, from whose place the window starts
        top, left = row - reach + 2 * around, column - reach + 2 * around
        moved.append(F.pad(weight, (left, spare - left, top, spare - top)))
    blocks = F.pixel_unshuffle(torch.cat(moved), 2)
    pixels = F.pixel_unshuffle(features, 2).contiguous(memory_format=torch.channels_last)
    sums = F.conv2d(pixels, blocks, None if bias is None else bias.repeat(4), padding=around)
    apart = sums.unflatten(1, (2, 2, len(weight))).permute(0, 4, 1, 5, 2, 3)  # N x H/2 x 2 x W/2 x 2 x D
    return apart.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def normalise(sums: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """``sums * scale + bias``, a bias a channel; ``sums`` is not to be used any more."""
    if not _takes_pytorchs_own(sums):
        return _NormaliseInPlace.apply(sums, scale, bias)
    return sums * scale if bias is None else torch.addcmul(_of_channels(bias, sums), sums, scale)


class _NormaliseInPlace(torch.autograd.Function):
    """On the CPU a feature map in fresh memory costs more than the arithmetic."""

    @staticmethod
    def forward(ctx, sums: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(scale)
        ctx.mark_dirty(sums)
        here, factor, added = sums, scale, None if bias is None else _of_channels(bias, sums)
        if _is_slow_to_broadcast(sums):
            here, factor = _rows(sums), _rows(scale.expand_as(sums))
            added = None if bias is None else bias.repeat(sums.shape[3])
        if added is None:
            here.mul_(factor)
        else:
            torch.addcmul(added, here, factor, out=here)
        return sums

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (scale,) = ctx.saved_tensors
        axes = [axis for axis in range(gradient.dim()) if axis != 1]
        of_bias = gradient.sum(dim=axes) if ctx.needs_input_grad[2] else None
        if not _is_slow_to_broadcast(gradient):
            return gradient * scale, None, of_bias
        rows = _rows(gradient) * _rows(scale.expand_as(gradient))
        return rows.view(gradient.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2), None, of_bias


def _of_channels(bias: Tensor, features: Tensor) -> Tensor:
    return bias.view(-1, *[1] * (features.dim() - 2))


def _is_slow_to_broadcast(features: Tensor) -> bool:
    """In 16 bits PyTorch's arithmetic on the CPU is vectorised only where its operands lie alike along the innermost
    axis: with one scale for all channels of a pixel, which are that axis in channels_last, it takes ten times as long
    as with a copy for each."""
    return features.element_size() == 2 and _is_channels_last(features)


def _is_channels_last(features: Tensor) -> bool:
    """False where they are transformed, where it can't be asked."""
    if features.dim() != 4 or (not torch.compiler.is_compiling() and is_transformed(features)):
        return False
    return features.is_contiguous(memory_format=torch.channels_last)


def _rows(features: Tensor) -> Tensor:
    """N x C x H x W as N H x W C: a view of what is in channels_last."""
    return features.permute(0, 2, 3, 1).flatten(0, 1).flatten(1)
