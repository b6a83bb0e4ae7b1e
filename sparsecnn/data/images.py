"""A data set in memory."""

import mmap
from dataclasses import dataclass

from torch import Tensor

__all__ = ["DIGITS", "IMAGENET_SCALE", "METRES", "MNIST_SCALE", "TITLES", "Images"]

TITLES = {
    "mnist": "MNIST",
    "caltech101": "Caltech-101",
    "digits": "digits (scikit-learn's, standing in for MNIST)",
    "shapes": "shapes (drawn, standing in for Caltech-101)",
    "kitti_range": "KITTI range images",
    "street": "street (drawn, standing in for KITTI range images)",
}
DIGITS = tuple("0123456789")
MNIST_SCALE = {"mean": (0.1307,), "std": (0.3081,)}  # the report's; the stand-in keeps them
IMAGENET_SCALE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
METRES = {"mean": (0.0,), "std": (1.0,)}  # depths stay what they are


@dataclass(frozen=True)
class Images:
    """A data set in memory.

    images  N x C x H x W, uint8; on the meta device, which holds no values, where they were not asked for. Range images
            are float32, in metres, 0 = no return
    labels  N, int64; of range images the drive, whose scans lie in the order of time
    mean, std  a number a channel, on the scale [0, 1]; what the report normalises with. Of range images 0 and 1
    test_count  the last so many images are the data set's own test split; 0 = it has none
    file    what ``images`` are mapped from, where they are a file's; nobody writes to them then
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    test_count: int = 0
    file: mmap.mmap | None = None

    @property
    def title(self) -> str:
        """The name for tables and figures; a stand-in says so."""
        return TITLES[self.name]

    def unload(self) -> None:
        """Gives back the memory of what was read of ``images``, where they are a file's; the kernel has it cached."""
        if self.file is not None and hasattr(self.file, "madvise"):
            self.file.madvise(mmap.MADV_DONTNEED)
