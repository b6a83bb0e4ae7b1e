"""The real data sets' files, each checked against its md5, as tensors."""

import contextlib
import hashlib
import io
import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files import REPOSITORY
from ..progress import bar
from .downloads import DataError
from .images import DIGITS, IMAGENET_SCALE, MNIST_SCALE, Images

__all__ = ["caltech101", "caltech101_image", "caltech101_labels", "mnist"]

MNIST_MD5 = {  # of the four canonical files, uncompressed
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CALTECH_MD5 = Path(__file__).with_name("caltech101.md5")  # one line an image, as md5sum writes and checks them
CALTECH_FOLDER = "caltech101/101_ObjectCategories"
CALTECH_SIZE = 224  # the report resizes both sides to it


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


def mnist(root: Path) -> Images:
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


def caltech101_labels() -> Images:
    folders = [name.split("/")[0] for name in _caltech101_md5()]
    classes = sorted(set(folders))
    labels = torch.tensor([classes.index(folder) for folder in folders])
    pixels = torch.empty((len(labels), 3, CALTECH_SIZE, CALTECH_SIZE), dtype=torch.uint8, device="meta")
    return Images("caltech101", pixels, labels, tuple(classes), **IMAGENET_SCALE)


def caltech101_image(root: Path, index: int) -> Tensor:
    """One image as :func:`caltech101` has it, 3 x 224 x 224, uint8; no other file is checked and decoded."""
    name, md5 = list(_caltech101_md5().items())[index]
    return torch.from_numpy(_decoded(root / CALTECH_FOLDER / name, md5).copy())


def _decoded(path: Path, md5: str) -> np.ndarray:
    with Image.open(io.BytesIO(_check_md5(path, md5))) as image:
        small = image.convert("RGB").resize((CALTECH_SIZE, CALTECH_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def caltech101(root: Path) -> Images:
    md5_of = _caltech101_md5()
    names = list(md5_of)
    labelled = caltech101_labels()
    shape = tuple(labelled.images.shape)
    # Other images or another size make another cache; its name ends in the checksum of its pixels.
    key = hashlib.md5(CALTECH_MD5.read_bytes() + repr(shape).encode(), usedforsecurity=False).hexdigest()[:8]
    caches = REPOSITORY / "build/cache"
    cache = next(caches.glob(f"caltech101-{key}-*.npy"), None)
    if cache is None:
        half_done = caches / f"caltech101-{key}.{os.getpid()}"

        def decode(i: int) -> None:
            pixels[i] = _decoded(root / CALTECH_FOLDER / names[i], md5_of[names[i]])

        try:
            pixels = _room_for_pixels(half_done, shape)
            with ThreadPoolExecutor() as pool, bar(len(names), desc="Caltech-101, decoded once", unit="image") as shown:
                for _ in pool.map(decode, range(len(names))):
                    shown.update()
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
