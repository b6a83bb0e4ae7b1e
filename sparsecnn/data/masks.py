"""Random validity masks (1 = observed). Sparsity is the fraction of pixels that are missing.

Masks are drawn with a CPU generator, so that a run sees the same ones on whatever device it trains.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from ..checks import SettingError, check_fraction, check_range, check_type

__all__ = [
    "bernoulli_mask",
    "exact_count_mask",
    "exact_count_masks",
    "pack",
    "ring_mask",
    "row_mask",
    "seed_from",
    "square_mask",
    "unpack",
]


def exact_count_mask(
    count: int, height: int, width: int, sparsity: float | Tensor, generator: Generator | None = None
) -> Tensor:
    """``count`` masks, each with exactly ``int(height * width * sparsity)`` missing pixels, uniform over such subsets.

    This is the report's scheme for MNIST.

    Args:
        sparsity: in [0, 1]; or a tensor of ``count`` such numbers, one a mask.
        generator: a CPU generator; None uses torch's default one.

    Returns:
        Bool, count x 1 x height x width, on the CPU.

    Raises:
        SettingError: for a count below 0, a height or width below 1, or a sparsity outside [0, 1].
    """
    _check(count, height, width, sparsity)
    pixels = height * width
    levels = sparsity.tolist() if isinstance(sparsity, Tensor) else [sparsity] * count
    dropped = np.array([int(pixels * level) for level in levels], dtype=np.int64)
    wanted = np.unique(dropped[dropped > 0]) - 1
    if len(wanted) == 0:
        return torch.ones(count, 1, height, width, dtype=torch.bool)
    keys = _distinct_keys(count, pixels, generator)
    # numpy's partition is vectorised, torch.kthvalue takes several times as long; beyond one place, sorting is faster.
    ordered = np.partition(keys.numpy(), wanted, axis=1) if len(wanted) == 1 else np.sort(keys.numpy(), axis=1)
    threshold = np.where(dropped > 0, ordered[np.arange(count), dropped - 1], -1)[:, None]
    return (keys > torch.from_numpy(threshold)).view(count, 1, height, width)


def exact_count_masks(
    count: int, height: int, width: int, sparsities: Sequence[float], generator: Generator | None = None
) -> Tensor:
    """What :func:`exact_count_mask` gives at each of the sparsities from a generator in this state, drawn once for all:
    a pixel that is missing at one is missing at all higher ones.

    Returns:
        Bool, S x count x 1 x height x width, on the CPU.
    """
    for sparsity in sparsities:
        _check(count, height, width, sparsity)
    pixels = height * width
    masks = torch.ones(len(sparsities), count, 1, height, width, dtype=torch.bool)
    dropped = [int(pixels * sparsity) for sparsity in sparsities]
    if any(dropped):
        keys = _distinct_keys(count, pixels, generator)
        ordered = torch.from_numpy(np.sort(keys.numpy(), axis=1))
        for mask, few in zip(masks, dropped, strict=True):
            if few:
                torch.gt(keys, ordered[:, few - 1 : few], out=mask.view(count, pixels))
    return masks


def _distinct_keys(count: int, pixels: int, generator: Generator | None) -> Tensor:
    """A random number for each pixel, no two of an image equal: the low bits are the pixel's own index."""
    low = (1 << (pixels - 1).bit_length()) - 1
    keys = torch.empty(count, pixels, dtype=torch.int64).random_(generator=generator)
    return keys.bitwise_and_(~low).bitwise_or_(torch.arange(pixels))


def bernoulli_mask(
    count: int, height: int, width: int, sparsity: float | Tensor, generator: Generator | None = None
) -> Tensor:
    """``count`` masks in which each pixel is missing with probability ``sparsity``, independently of all others.

    This is the report's scheme for Caltech-101. Arguments, result and errors as in :func:`exact_count_mask`.
    """
    _check(count, height, width, sparsity)
    if isinstance(sparsity, Tensor):
        sparsity = sparsity.view(-1, 1, 1, 1)
    return torch.rand(count, 1, height, width, generator=generator) >= sparsity


def square_mask(count: int, height: int, width: int, sparsity: float, generator: Generator | None = None) -> Tensor:
    """``count`` masks with one missing square each, of the whole number of pixels' side that comes nearest to
    ``sparsity``, at a place uniform among those where it lies inside. Else as :func:`exact_count_mask`.

    Raises:
        SettingError: also where no such square fits into the image.
    """
    _check(count, height, width, sparsity)
    side = round((height * width * sparsity) ** 0.5)
    check_range("the missing square's side", side, least=0, most=min(height, width))
    inside = []
    for size in (height, width):
        first = torch.randint(size - side + 1, (count, 1), generator=generator)
        place = torch.arange(size)
        inside.append((place >= first) & (place < first + side))
    return ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


def row_mask(count: int, height: int, width: int, sparsity: float, generator: Generator | None = None) -> Tensor:
    """``count`` masks with ``round(height * sparsity)`` whole rows missing, uniform over such subsets of rows. Else as
    :func:`exact_count_mask`."""
    _check(count, height, width, sparsity)
    rank = torch.rand(count, height, generator=generator).argsort(dim=1).argsort(dim=1)
    return (rank >= round(height * sparsity))[:, None, :, None].expand(count, 1, height, width).contiguous()


def ring_mask(count: int, height: int, width: int, rings: int) -> Tensor:
    """``count`` masks in which of every ``height / rings`` rows, a laser's rings, only the middle one is observed (the
    lower one of two), as a sensor of so many lasers would have it.

    Args:
        rings: how many are kept; a divisor of ``height``.

    Returns:
        Bool, count x 1 x height x width, on the CPU; all the same.

    Raises:
        SettingError: for a count below 0, a height or width below 1, or rings that do not divide the height.
    """
    _check(count, height, width, 0)
    check_type("rings", rings, int)
    check_range("rings", rings, least=1, most=height)
    if height % rings:
        raise SettingError(f"rings={rings} is not allowed: a divisor of the height, {height}")
    apart = height // rings
    kept = torch.arange(height) % apart == apart // 2
    return kept[:, None].expand(count, 1, height, width).contiguous()


def pack(masks: Tensor) -> Tensor:
    """Bool masks on the CPU, N x 1 x H x W, eight to a byte: uint8, N x 1 x H x ceil(W / 8)."""
    return torch.from_numpy(np.packbits(masks.numpy(), axis=3))


def unpack(packed: Tensor, width: int) -> Tensor:
    """The masks of that width that :func:`pack` was given, on the device of ``packed``; any leading axes."""
    return (packed.unsqueeze(-1) & _bits(packed.device)).bool().flatten(-2)[..., :width]


@functools.cache  # on CUDA to make it anew would have the host wait for the device
def _bits(device: torch.device) -> Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)


def seed_from(*numbers: int) -> int:
    """A seed for torch's generators from whole numbers, such that neighbouring ones give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _check(count: int, height: int, width: int, sparsity: float | Tensor) -> None:
    for name, value, least in (("count", count, 0), ("height", height, 1), ("width", width, 1)):
        check_type(name, value, int)
        check_range(name, value, least=least)
    check_range("count * height * width", count * height * width, least=0, most=2**31)
    if not isinstance(sparsity, Tensor):
        check_fraction("sparsity", sparsity, up_to=1)
    elif sparsity.shape != (count,) or not ((sparsity >= 0) & (sparsity <= 1)).all():
        raise SettingError(f"sparsity={sparsity} is not allowed: a fraction, or {count} of them, a mask each")
