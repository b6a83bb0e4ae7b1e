"""MNIST, Caltech-101, KITTI's range images and their bundled stand-ins as tensors, and their splits.

The data root is the environment's SPARSECNN_DATA, or ``data/`` in the repository, in torchvision's layout or another
that people have, see downloads.PLACES.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

# torchvision and scikit-learn take seconds to import, which who reads results need not wait for: imported where needed.
from ..checks import SettingError, check_choice, check_range, check_type
from ..experiment import FAMILIES, KITTI, SPLITS
from . import kitti, sources, standins
from .downloads import OfflineError, data_root, fetch
from .images import DIGITS, IMAGENET_SCALE, METRES, MNIST_SCALE, TITLES, Images

__all__ = ["Pictures", "available", "load", "split"]

STAND_IN = dict(FAMILIES)
# The published notebooks' two, and ours; a split by drive is not drawn.
SPLIT_SEEDS = dict(zip(SPLITS[:4], (0, 0, 42, 44), strict=True))


def available(name: str) -> str:
    """``name`` where that data set is at hand or can be downloaded, else the name of its stand-in, said aloud."""
    check_choice("dataset", name, TITLES)
    if name not in STAND_IN:
        return name
    try:
        fetch(name, data_root())
    except OfflineError as error:
        print(f"{TITLES[name]}: not at hand ({error}). Standing in: {TITLES[STAND_IN[name]]}.", flush=True)
        return STAND_IN[name]
    return name


def load(name: str, pixels: bool = True) -> Images:
    """The data set ``name`` (mnist, caltech101, kitti_range, digits, shapes, street) as tensors, downloaded first where
    it is missing; kitti_range is not, and the error says how to have it.

    Caltech-101 is decoded and resized once, into a cache under build/; its labels come with the package, so without
    ``pixels`` the data set need not be at hand.

    Raises:
        SettingError: for an unknown name.
        DataError: where it can't be had, or where a file of it is not the canonical one; the message names the file.
    """
    check_choice("dataset", name, TITLES)
    check_type("pixels", pixels, bool)
    if name == "caltech101" and not pixels:
        return sources.caltech101_labels()
    return _load(name, data_root())


@functools.cache
def _load(name: str, root: Path) -> Images:
    match name:
        case "mnist":
            return sources.mnist(fetch(name, root))
        case "caltech101":
            return sources.caltech101(fetch(name, root))
        case "digits":
            images, labels, test_count = standins.digits()
            return Images(name, images, labels, DIGITS, test_count=test_count, **MNIST_SCALE)
        case "shapes":
            return Images(name, *standins.shapes(), tuple(standins.SHAPES), **IMAGENET_SCALE)
        case "kitti_range":
            return kitti.scans(fetch(name, root))
        case "street":
            return Images(name, *standins.street(), tuple(standins.STREETS), **METRES)


class Pictures(Dataset):
    """The images of a data set one by one, as torchvision's data sets give them: ``(image, label)``.

    An image is a tensor C x H x W, uint8, or float32 where it is in metres; of Caltech-101 it is checked and decoded
    when it is read, so that a few do not cost the decoding of all. Of a data set with test images of its own, these
    alone.

    Args:
        name: as in :func:`load`, downloaded first where it is missing.
        transform: applied to an image.

    Raises:
        SettingError, DataError: as :func:`load`; DataError also where an image that is read is not the canonical one.
    """

    def __init__(self, name: str, transform: Callable[[Tensor], Tensor] | None = None):
        self.data, self.transform = load(name, pixels=False), transform
        self.folder = fetch(name, data_root()) if name in STAND_IN else None
        self.labels = self.data.labels[-self.data.test_count :]  # all, where the count is 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])  # an IndexError ends iteration
        if self.data.images.is_meta:
            image = sources.caltech101_image(self.folder, index)
        else:
            image = self.data.images[index - len(self) if index >= 0 else index]
        return (self.transform(image) if self.transform else image), label


def split(data: Images, validation: int = 0, kind: str = "own", seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the train, validation and test images, for one seed always the same ones, in ascending order.

    Args:
        validation: so many images are held out from those that are not test images; 0 = none.
        kind: "own", the test images are the data set's own; "stratified", they are 20% of the images, rounded up. Or as
            in the published notebooks on Caltech-101, which left out two classes of 66 images together:
            "99 classes, stratified" for SparseConvNet, "99 classes, unstratified" for ConvNet. Which two is not
            recorded; here they are the first two in alphabetical order that have 66. Range images are split "by drive",
            they alone: validation scans are the last ones of the first drive, training scans those before a gap of a
            tenth of this drive, which is in neither part (on KITTI 16 scans, some 8 m); test scans are the other
            drives', of sequence_c every fourth, since its car hardly moves.
        seed: 0 to 1000; 0 = the split of the report's tables, another one draws it anew. The data set's own test
            images stay what they are.

    Classes are as frequent in all parts, but for the unstratified split and that by drive.

    Raises:
        SettingError: where a class would have no image in some part, the data set has no test images of its own, or a
            split by drive is asked to be drawn anew.
    """
    check_type("validation", validation, int)
    check_choice("split", kind, SPLITS)
    check_type("seed", seed, int)
    check_range("seed", seed, least=0, most=1000)
    if (kind == "by drive") is not (data.name in KITTI):
        kinds = ("by drive",) if data.name in KITTI else SPLIT_SEEDS
        raise SettingError(f"split={kind!r} is not allowed: {data.title} has {', '.join(map(repr, kinds))}")
    if kind == "by drive":
        if seed:
            raise SettingError(f"seed={seed} is not allowed: a split by drive is not drawn, there is but 0")
        return tuple(map(torch.from_numpy, kitti.by_drive(data, validation)))
    if kind == "own" and data.test_count == 0:
        raise SettingError(f"split='own' is not allowed: {data.title} has no test images of its own, 'stratified' does")
    labels = data.labels.numpy()
    pool = np.arange(len(labels))
    if kind.startswith("99"):
        pool = pool[~np.isin(labels, _two_left_out(labels))]

    def part(images: np.ndarray, count: int | float) -> list[np.ndarray]:
        from sklearn.model_selection import train_test_split

        stratify = None if kind.endswith("unstratified") else labels[images]
        state = SPLIT_SEEDS[kind] + 100 * seed  # 42 and 44 never meet
        return train_test_split(images, test_size=count, stratify=stratify, random_state=state)

    rest, test = np.split(pool, [len(pool) - data.test_count]) if kind == "own" else part(pool, 0.2)
    held_out = np.empty(0, dtype=np.int64)
    if validation:
        classes = len(data.classes)
        if not classes <= validation <= len(rest) - classes:
            raise SettingError(
                f"validation={validation} is not allowed: 0, or {classes} to {len(rest) - classes}, "
                f"so that each class has one of the {len(rest)} images in both parts"
            )
        rest, held_out = part(rest, validation)
    return tuple(torch.from_numpy(np.sort(images)) for images in (rest, held_out, test))


def _two_left_out(labels: np.ndarray) -> tuple[int, int]:
    """The first two classes that have 66 images together; the first two of all where none have, as in the stand-in."""
    counts = np.bincount(labels)
    pairs = itertools.combinations(range(len(counts)), 2)
    return next((pair for pair in pairs if counts[list(pair)].sum() == 66), (0, 1))
