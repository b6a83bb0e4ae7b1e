"""Any map-style data set with pixels missing."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..checks import SettingError, check_choice, check_fraction, check_range, check_type
from .masks import bernoulli_mask, exact_count_mask, seed_from

__all__ = ["SparseDataset"]

FULL_SCALE = {torch.bool: 1, torch.uint8: 255, torch.uint16: 65535}  # what is 1.0
CHANNELS = (1, 2, 3, 4)  # how many an array of numpy's may have, to tell them from rows and columns


class SparseDataset(Dataset):
    """Any torchvision data set with pixels missing: yields ``(image, mask, label)``.

    Args:
        dataset: has a length, and yields ``(image, label)``, or more than one label, or the image alone; labels of any
            kind come out behind the mask as they are. The image is one of PIL's, a tensor C x H x W or H x W, or an
            array of numpy's, whose 1 to 4 channels are its first or its last axis.
        sparsity: fraction of pixels missing, in [0, 1].
        scheme: "exact" (int(H * W * sparsity) pixels of every image) or "bernoulli" (each pixel with that probability).
        seed: None draws a new mask each time an image is read, from torch's global generator, as the report does on
            MNIST; a number gives every image one mask for good, as the report does on Caltech-101.
        transform: applied to the image *after* its pixels were dropped, say a Normalize.
        before: applied to the image as the data set gives it, before its pixels are dropped, say a Resize.

    The image is a float32 tensor C x H x W with 0 at missing pixels before ``transform``: one of bytes, of unsigned 16
    bits or of bool scaled to [0, 1] by the largest number of its kind (so KITTI's depth, metres times 256, comes out in
    units of 65535 / 256 metres), a floating one in its own unit. A palette's images become RGB. The mask is a bool
    tensor 1 x H x W (True = observed), the same for all channels. ``targets``, ``classes`` and ``class_to_idx`` are
    those of ``dataset``.

    Raises:
        SettingError: for a setting that is not allowed, and, where it is read, for an image of another kind (signed
            whole numbers, whose scale nothing tells, say); the line names its shape and dtype.
    """

    SCHEMES = {"exact": exact_count_mask, "bernoulli": bernoulli_mask}

    def __init__(
        self,
        dataset: Dataset,
        sparsity: float,
        scheme: str = "exact",
        seed: int | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        before: Callable | None = None,
    ):
        check_fraction("sparsity", sparsity, up_to=1)
        check_choice("scheme", scheme, self.SCHEMES)
        if seed is not None:
            check_type("seed", seed, int)
            check_range("seed", seed, least=0)
        for name, value in (("transform", transform), ("before", before)):
            if value is not None and not callable(value):
                raise SettingError(f"{name}={value!r} is not allowed: None, or what can be called with an image")
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise SettingError(f"dataset={dataset!r} is not allowed: one with a length, whose items have numbers")
        self.dataset, self.sparsity, self.scheme = dataset, sparsity, scheme
        self.seed, self.transform, self.before = seed, transform, before

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str):
        if name in ("targets", "classes", "class_to_idx"):
            return getattr(self.dataset, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getitem__(self, index: int) -> tuple:
        item = self.dataset[index]
        if isinstance(item, dict):
            raise SettingError(f"dataset[{index}] with the keys {list(item)} is not allowed: a tuple (image, label)")
        image, *labels = item if isinstance(item, (tuple, list)) else (item,)
        image = _floats(self.before(image) if self.before else image, index)
        generator = None
        if self.seed is not None:
            # An index may count from the end.
            generator = torch.Generator().manual_seed(seed_from(self.seed, index % len(self)))
        mask = self.SCHEMES[self.scheme](1, *image.shape[1:], self.sparsity, generator)[0]
        image = torch.where(mask, image, 0)
        return (self.transform(image) if self.transform else image), mask, *labels


def _floats(image, index: int) -> Tensor:
    """The image as float32, C x H x W; ``index`` is for the line that refuses it."""
    mode = getattr(image, "mode", None) if hasattr(image, "getbands") else None  # one of PIL's
    if mode in ("P", "PA"):
        image = image.convert("RGB" if mode == "P" else "RGBA")
    named = f"dataset[{index}] of type {type(image).__name__}"
    array = image
    if mode is not None:
        array = np.asarray(image)
        named = f"dataset[{index}] of mode {mode}"
    if isinstance(array, np.ndarray):
        named += f", shape {array.shape} and dtype {array.dtype}"
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise SettingError(f"{named} is not allowed: bool, uint8, uint16 or floating point")
        array = torch.from_numpy(_channels_first(array, named, mode).astype(array.dtype.newbyteorder("="), copy=True))
    elif isinstance(array, Tensor):
        named += f", shape {tuple(array.shape)} and dtype {array.dtype}"
    else:
        raise SettingError(f"{named} is not allowed: a PIL image, a tensor or an array of numpy's")
    if not (array.dtype in FULL_SCALE or array.is_floating_point()):
        raise SettingError(
            f"{named} is not allowed, since nothing tells its scale: uint8, uint16, floating point or bool"
        )
    if array.dim() == 2:
        array = array[None]
    if array.dim() != 3 or 0 in array.shape or array.layout != torch.strided:
        raise SettingError(f"{named} is not allowed: C x H x W or H x W, dense and not empty")
    return array.to(torch.float32).div_(FULL_SCALE[array.dtype]) if array.dtype in FULL_SCALE else array.float()


def _channels_first(array: np.ndarray, named: str, mode: str | None) -> np.ndarray:
    if array.ndim != 3:
        return array
    first, last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
    if mode is None and first == last:
        raise SettingError(f"{named} is not allowed, since its channels can't be told: give a tensor C x H x W")
    return array if mode is None and first else array.transpose(2, 0, 1)
