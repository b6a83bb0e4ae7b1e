"""MNIST, Caltech-101 and their bundled stand-ins as tensors; :class:`SparseDataset` for code that wants a Dataset.

The data root is the environment's SPARSECNN_DATA, or ``data/`` in the repository, in torchvision's layout.
"""

import contextlib
import functools
import hashlib
import itertools
import math
import mmap
import os
import shutil
import socket
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

# torchvision and scikit-learn take seconds to import, which who reads results need not wait for: imported where needed.
from . import standins
from .experiment import SPLITS, SettingError, check_choice, check_fraction, check_range, check_type
from .masks import bernoulli_mask, exact_count_mask, seed_from

__all__ = ["DataError", "Images", "SparseDataset", "available", "data_root", "load", "split"]

REPOSITORY = Path(__file__).resolve().parent.parent
STAND_IN = {"mnist": "digits", "caltech101": "shapes"}
MNIST_MD5 = {  # of the four canonical files, uncompressed
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CALTECH_MD5 = Path(__file__).with_name("caltech101.md5")  # one line an image, as md5sum writes and checks them
# The published notebooks' two, and ours.
SPLIT_SEEDS = dict(zip(SPLITS, (0, 0, 42, 44), strict=True))
PATIENCE = 20  # seconds that a download may stand still
CALTECH_SIZE = 224  # the report resizes both sides to it


class DataError(RuntimeError):
    """A data set that is missing, cut short or altered. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


@dataclass(frozen=True)
class Images:
    """A data set in memory.

    images  N x C x H x W, uint8; on the meta device, which holds no values, where they were not asked for
    labels  N, int64
    mean, std  a number a channel, on the scale [0, 1]; what the report normalises with
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


TITLES = {
    "mnist": "MNIST",
    "caltech101": "Caltech-101",
    "digits": "digits (scikit-learn's, standing in for MNIST)",
    "shapes": "shapes (drawn, standing in for Caltech-101)",
}
DIGITS = tuple("0123456789")
MNIST_SCALE = {"mean": (0.1307,), "std": (0.3081,)}  # the report's; the stand-in keeps them
IMAGENET_SCALE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def data_root() -> Path:
    """Where the data sets lie.

    Raises:
        DataError: where SPARSECNN_DATA names no folder, or one that may not be read.
    """
    named = os.environ.get("SPARSECNN_DATA")
    if named is None:
        return REPOSITORY / "data"
    if not os.path.isdir(named):
        raise DataError(f"SPARSECNN_DATA={named} is no folder: name the one that holds MNIST/ and caltech101/")
    if not os.access(named, os.R_OK | os.X_OK):
        raise DataError(f"SPARSECNN_DATA={named} may not be read by this user: change its mode, or name another folder")
    return Path(named)


def available(name: str) -> str:
    """``name`` where that data set is at hand or can be downloaded, else the name of its stand-in, said aloud."""
    check_choice("dataset", name, TITLES)
    if name not in STAND_IN:
        return name
    try:
        _fetch(name, data_root())
    except OfflineError as error:
        print(f"{TITLES[name]} is not at hand ({error}). Standing in: {TITLES[STAND_IN[name]]}.", flush=True)
        return STAND_IN[name]
    return name


def load(name: str, pixels: bool = True) -> Images:
    """The data set ``name`` (mnist, caltech101, digits, shapes) as tensors, downloaded first where it is missing.

    Caltech-101 is decoded and resized once, into a cache under build/; its labels come with the package, so without
    ``pixels`` the data set need not be at hand.

    Raises:
        SettingError: for an unknown name.
        DataError: where it can't be had, or where a file of it is not the canonical one; the message names the file.
    """
    check_choice("dataset", name, TITLES)
    check_type("pixels", pixels, bool)
    if name == "caltech101" and not pixels:
        return _caltech101_labels()
    return _load(name, data_root())


@functools.cache
def _load(name: str, root: Path) -> Images:
    if name in STAND_IN:
        _fetch(name, root)
    match name:
        case "mnist":
            return _mnist(root)
        case "caltech101":
            return _caltech101(root)
        case "digits":
            images, labels, test_count = standins.digits()
            return Images(name, images, labels, DIGITS, test_count=test_count, **MNIST_SCALE)
        case "shapes":
            return Images(name, *standins.shapes(), tuple(standins.SHAPES), **IMAGENET_SCALE)


def split(data: Images, validation: int = 0, kind: str = "own") -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the train, validation and test images, always the same ones, in ascending order.

    Args:
        validation: so many images are held out from those that are not test images; 0 = none.
        kind: "own", the test images are the data set's own; "stratified", they are 20% of the images, rounded up. Or as
            in the published notebooks on Caltech-101, which left out two classes of 66 images together:
            "99 classes, stratified" for SparseConvNet, "99 classes, unstratified" for ConvNet. Which two is not
            recorded; here they are the first two in alphabetical order that have 66.

    Classes are as frequent in all parts, but for the unstratified split.

    Raises:
        SettingError: where a class would have no image in some part, or the data set has no test images of its own.
    """
    check_type("validation", validation, int)
    check_choice("split", kind, SPLITS)
    if kind == "own" and data.test_count == 0:
        raise SettingError(f"split='own' is not allowed: {data.title} has no test images of its own, 'stratified' does")
    labels = data.labels.numpy()
    pool = np.arange(len(labels))
    if kind.startswith("99"):
        pool = pool[~np.isin(labels, _two_left_out(labels))]

    def part(images: np.ndarray, count: int | float) -> list[np.ndarray]:
        from sklearn.model_selection import train_test_split

        stratify = None if kind.endswith("unstratified") else labels[images]
        return train_test_split(images, test_size=count, stratify=stratify, random_state=SPLIT_SEEDS[kind])

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


class SparseDataset(Dataset):
    """Any torchvision data set with pixels missing: yields ``(image, mask, label)``.

    Args:
        dataset: yields ``(image, label)``, the image a PIL image or a C x H x W tensor.
        sparsity: fraction of pixels missing, in [0, 1].
        scheme: "exact" (int(H * W * sparsity) pixels of every image) or "bernoulli" (each pixel with that probability).
        seed: None draws a new mask each time an image is read, from torch's global generator, as the report does on
            MNIST; a number gives every image one mask for good, as the report does on Caltech-101.
        transform: applied to the image *after* its pixels were dropped, say a Normalize.

    The image is a float tensor C x H x W, one of bytes scaled to [0, 1], with 0 at missing pixels before ``transform``;
    the mask is a bool tensor 1 x H x W (True = observed), the same for all channels.
    """

    SCHEMES = {"exact": exact_count_mask, "bernoulli": bernoulli_mask}

    def __init__(
        self,
        dataset: Dataset,
        sparsity: float,
        scheme: str = "exact",
        seed: int | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ):
        check_fraction("sparsity", sparsity, up_to=1)
        check_choice("scheme", scheme, self.SCHEMES)
        if seed is not None:
            check_type("seed", seed, int)
            check_range("seed", seed, least=0)
        self.dataset, self.sparsity, self.scheme = dataset, sparsity, scheme
        self.seed, self.transform = seed, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        from torchvision.transforms.functional import convert_image_dtype, to_tensor

        image, label = self.dataset[index]
        if not isinstance(image, Tensor):
            image = to_tensor(image)
        elif not image.is_floating_point():
            image = convert_image_dtype(image)
        generator = None
        if self.seed is not None:
            # An index may count from the end.
            generator = torch.Generator().manual_seed(seed_from(self.seed, index % len(self)))
        mask = self.SCHEMES[self.scheme](1, *image.shape[1:], self.sparsity, generator)[0]
        image = torch.where(mask, image, 0)
        return (self.transform(image) if self.transform else image), mask, label


# The real data sets


class OfflineError(DataError):
    """A data set that is neither at hand nor to be downloaded."""


def _fetch(name: str, root: Path) -> None:
    """Downloads a real data set into ``root`` unless it is there; torchvision checks each archive's md5 before it opens
    it."""
    source, place = {
        "mnist": ("MNIST", "MNIST/raw"),
        "caltech101": ("Caltech101", "caltech101/101_ObjectCategories"),
    }[name]
    if (root / place).is_dir() and any((root / place).iterdir()):
        return
    import torchvision

    try:
        root.mkdir(parents=True, exist_ok=True)
        # Downloaded beside its place, so that what breaks off leaves nothing that looks like a data set.
        with tempfile.TemporaryDirectory(dir=root, prefix="download-") as aside, _over_https(PATIENCE):
            getattr(torchvision.datasets, source)(aside, download=True)
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(root / place, ignore_errors=True)
            os.replace(Path(aside, place), root / place)
    except (OSError, HTTPException, RuntimeError, EOFError) as error:  # from urllib, torchvision, the archive readers
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OfflineError(f"no {TITLES[name]} in {root}, and its download failed: {reason}") from None


class _RefuseHTTP(urllib.request.HTTPHandler):
    """torchvision turns to http:// where https:// fails."""

    def http_open(self, request):
        raise URLError("no answer over https, and plain http is refused")


OPENERS = (_RefuseHTTP,)


@contextlib.contextmanager
def _over_https(patience: float) -> Iterator[None]:
    """In it, urllib gives up connections that stand still for so many seconds, and opens none without encryption."""
    timeout, opener = socket.getdefaulttimeout(), urllib.request._opener
    socket.setdefaulttimeout(patience)
    urllib.request.install_opener(urllib.request.build_opener(*OPENERS))
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        urllib.request.install_opener(opener)


def _check_md5(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}): delete its folder to download it again") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise DataError(
            f"{path} is cut short or altered ({len(content)} bytes, md5 differs): "
            "delete its folder to download it again"
        )
    return content


def _mnist(root: Path) -> Images:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    for file, md5 in MNIST_MD5.items():
        _check_md5(root / "MNIST/raw" / file, md5)
    # Read from these files, not through torchvision's MNIST: that prefers an old processed/ folder where there is one.
    images, labels = (
        [read(str(root / "MNIST/raw" / f"{part}-{kind}-ubyte")) for part in ("train", "t10k")]
        for read, kind in ((read_image_file, "images-idx3"), (read_label_file, "labels-idx1"))
    )
    return Images(
        "mnist", torch.cat(images)[:, None], torch.cat(labels), DIGITS, test_count=len(labels[1]), **MNIST_SCALE
    )


def _caltech101_md5() -> dict[str, str]:
    """Of each image, by its place in the data set's folder."""
    return {name: md5 for md5, name in (line.split() for line in CALTECH_MD5.read_text().splitlines())}


def _caltech101_labels() -> Images:
    folders = [name.split("/")[0] for name in _caltech101_md5()]
    classes = sorted(set(folders))
    labels = torch.tensor([classes.index(folder) for folder in folders])
    pixels = torch.empty((len(labels), 3, CALTECH_SIZE, CALTECH_SIZE), dtype=torch.uint8, device="meta")
    return Images("caltech101", pixels, labels, tuple(classes), **IMAGENET_SCALE)


def _caltech101(root: Path) -> Images:
    folder = root / "caltech101/101_ObjectCategories"
    md5_of = _caltech101_md5()
    names = list(md5_of)
    labelled = _caltech101_labels()
    shape = tuple(labelled.images.shape)
    # Other images or another size make another cache; its name ends in the checksum of its pixels.
    key = hashlib.md5(CALTECH_MD5.read_bytes() + repr(shape).encode(), usedforsecurity=False).hexdigest()[:8]
    caches = REPOSITORY / "build/cache"
    cache = next(caches.glob(f"caltech101-{key}-*.npy"), None)
    if cache is None:
        half_done = caches / f"caltech101-{key}.{os.getpid()}"

        def decode(i: int) -> None:
            _check_md5(folder / names[i], md5_of[names[i]])
            with Image.open(folder / names[i]) as image:
                small = image.convert("RGB").resize((CALTECH_SIZE, CALTECH_SIZE), Image.Resampling.BILINEAR)
            pixels[i] = np.asarray(small).transpose(2, 0, 1)

        try:
            pixels = _room_for_pixels(half_done, shape)
            with ThreadPoolExecutor() as pool:
                work = pool.map(decode, range(len(names)))
                list(tqdm(work, total=len(names), desc="Caltech-101, decoded once", unit="image"))
            pixels.flush()
            cache = caches / f"caltech101-{key}-{zlib.crc32(pixels):08x}.npy"
            os.replace(half_done, cache)
        finally:
            with contextlib.suppress(OSError):
                half_done.unlink()
    try:
        pixels = np.load(cache, mmap_mode="c")  # memory that processes share, as long as none writes to it
        if pixels.shape != shape or f"{zlib.crc32(pixels):08x}" != cache.stem.split("-")[-1]:
            raise ValueError("its checksum differs")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{cache} is cut short or altered ({error}): delete it to decode the images again") from error
    return replace(labelled, images=torch.from_numpy(pixels), file=pixels.base)


def _room_for_pixels(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new array of bytes in a file, all of whose room on the disk is taken."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):  # or a disk that fills up would end the process without a word
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise DataError(
            f"{path.parent} can't take the decoded images of Caltech-101 ({error.strerror or error}): "
            f"{math.prod(shape) / 1e9:.1f} GB must be free there, and may be written"
        ) from error
    return pixels
