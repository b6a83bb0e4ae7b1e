"""How many observed pixels each window has, and what its sum is therefore multiplied by."""

import contextlib
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import autocasts

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def edges_of(kernel: tuple[int, ...], padding, dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """How much is added before and after each axis; with "same" the odd one out comes after, as in Conv2d."""
    if padding == "same":
        reach = [apart * (size - 1) for size, apart in zip(kernel, dilation, strict=True)]
        return [(n // 2, n - n // 2) for n in reach]
    return [(n, n) for n in padding]


def flat(edges: list[tuple[int, int]]) -> list[int]:
    """The edges as F.pad takes them, the last axis first."""
    return [size for edge in reversed(edges) for size in edge]


def window_scale(
    observed: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    eps: float,
    dtype: torch.dtype,
    scale: str = "count",
    padding_observed: bool = False,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """What the sum over each window is multiplied by, 1 / (its observed pixels + eps) or 0; and 1 where it has any, 0
    where none.

    ``observed``, bool, has one channel, and so have the two results; or as many as the features, and they ``groups``:
    an observed pixel then counts as the share of the group's channels that are. With ``scale`` "window" the factor is
    1 / the share of the window that is observed. ``dtype`` is that of the features; the results are in float32 at
    least, in which 1e-8 does not vanish.
    """
    images, deep = _one_channel(observed, groups)
    edges = edges_of(kernel, padding, dilation)
    # The compiler would work a sum out again for every channel; a convolution it leaves whole.
    on_cpu = observed.device.type == "cpu"
    # On CUDA small windows cost what it takes to start their kernels, of which a convolution needs the fewest.
    few = observed.device.type == "cuda" and math.prod(kernel) <= 49 and not torch.compiler.is_compiling()
    if few or torch.jit.is_tracing() or torch.compiler.is_exporting() or (on_cpu and torch.compiler.is_compiling()):
        if padding_observed:
            images, padding = F.pad(images.float(), flat(edges), value=deep), (0,) * len(kernel)
        sums = _by_ones(CONVOLVE, images, kernel, stride=stride, padding=padding, dilation=dilation)
    else:
        # The smallest whole numbers that hold a count: they are what takes time here.
        kind = torch.uint8 if deep * math.prod(kernel) <= 255 else torch.int32
        images = images.view(kind) if images.dtype.itemsize == kind.itemsize else images.to(kind)
        sums = _window_sum(F.pad(images, flat(edges), value=deep * padding_observed), kernel, stride, dilation)
    whole = math.prod(kernel) if scale == "window" else None
    factor, seen = _factor(sums, deep, whole, eps, dtype)
    return _regroup(factor, observed), _regroup(seen, observed)


def transposed_scale(
    observed: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    eps: float,
    dtype: torch.dtype,
    scale: str,
    padding_observed: bool,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """As :func:`window_scale`, of a transposed convolution: the window of a place are the pixels that reach it, and how
    many do where no edge is near depends on its place between two steps of the stride."""
    images, deep = _one_channel(observed, groups)
    geometry = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    sums = _by_ones(TRANSPOSE, images, kernel, **geometry)
    whole = None
    if scale == "window" or padding_observed:
        reach = [
            _taps(size, *numbers, sums.device)
            for size, *numbers in zip(sums.shape[2:], kernel, stride, padding, dilation, strict=True)
        ]
        whole = functools.reduce(lambda grid, taps: grid.unsqueeze(-1) * taps, reach)
    if padding_observed:
        inside = _by_ones(TRANSPOSE, torch.ones_like(images[:1]), kernel, **geometry)
        sums = sums + deep * (whole - inside)
    factor, seen = _factor(sums, deep, whole.clamp(min=1) if scale == "window" else None, eps, dtype)
    if padding_observed:
        seen = seen.bool() | (whole == 0)  # where a stride leaves gaps nothing is missing
    return _regroup(factor, observed), _regroup(seen, observed)


def _one_channel(observed: Tensor, groups: int) -> tuple[Tensor, int]:
    """N * groups images of one channel, whose values go up to the second result: how many of the group's channels."""
    if observed.shape[1] == 1:
        return observed, 1
    deep = observed.shape[1] // groups
    return observed.unflatten(1, (groups, deep)).sum(2).flatten(0, 1).unsqueeze(1), deep


def _factor(
    sums: Tensor, deep: int, whole: int | Tensor | None, eps: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What each sum is multiplied by; and whether it saw any, 1 or 0 in the same dtype."""
    sums = sums.to(torch.float64 if dtype == torch.float64 else torch.float32)
    seen, count = sums.clamp(max=1), sums.clamp(min=1)
    if deep > 1:
        count = count / deep
    count = count.add_(eps)
    if whole is not None:
        whole = whole.to(count.dtype) if isinstance(whole, Tensor) else whole
        count = count / (whole + eps)  # 1 where all is observed
    # 0 for an empty window, whose sum need not be 0: Winograd convolutions take its neighbours in and out, and round.
    return seen / count, seen


def _regroup(of_images: Tensor, observed: Tensor) -> Tensor:
    """What :func:`_one_channel` took apart, N x groups again."""
    return of_images if observed.shape[1] == 1 else of_images.squeeze(1).unflatten(0, (len(observed), -1))


def _by_ones(convolve: dict, images: Tensor, kernel: tuple[int, ...], **geometry) -> Tensor:
    """The convolution of whole numbers with ones, exact to 2 ** 24."""
    device = images.device.type
    with torch.autocast(device, enabled=False) if autocasts(device) else contextlib.nullcontext():
        ones = torch.ones(1, 1, *kernel, device=images.device)
        return convolve[len(kernel)](images.float(), ones, None, **geometry).round()


def _taps(size: int, kernel: int, stride: int, padding: int, dilation: int, device: torch.device) -> Tensor:
    """Along one axis, how many of a transposed convolution's weights reach each place of an image without edges."""
    places = torch.arange(size, device=device) + padding
    return ((places[:, None] - dilation * torch.arange(kernel, device=device)) % stride == 0).sum(1).float()


def _window_sum(image: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Sum over each window of a convolution with that geometry; axis by axis, since a box separates."""
    for axis, (size, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        image = _sliding_sum(image, axis, size, apart)
        if step > 1:
            image = image[(slice(None),) * axis + (slice(None, None, step),)]
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
