"""The real data sets' files, each checked against its md5, as tensors."""

import contextlib
import gzip
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

from ..progress import bar
from .downloads import DataError, cache_folder, md5_sums
from .images import DIGITS, IMAGENET_SCALE, MNIST_SCALE, Images

__all__ = ["caltech101", "caltech101_image", "caltech101_labels", "mnist"]

MNIST_MD5 = {  # of the four canonical files, uncompressed
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CALTECH_MD5 = Path(__file__).with_name("caltech101.md5")  # one line an image, as md5sum writes and checks them
CALTECH_SIZE = 224  # the report resizes both sides to it


def _check_md5(content: bytes | OSError, path: Path, expected: str, folder: Path) -> bytes:
    if isinstance(content, OSError):
        raise DataError(f"{path} can't be read ({content.strerror or content}): {_again(folder)}") from content
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise DataError(f"{path} is cut short or altered ({len(content)} bytes, md5 differs): {_again(folder)}")
    return content


def _again(folder: Path) -> str:
    """How a data set is downloaded anew: once nothing of it is left in its folder."""
    return f"take the data set's files out of {folder} to have it downloaded again"


def _read(path: Path) -> bytes | OSError:
    """A file's content, unpacked where it is packed, or why it has none."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (EOFError, zlib.error) as error:
        return OSError(str(error))
    except OSError as error:
        return error


def mnist(folder: Path) -> Images:
    """MNIST from the four files in ``folder``, packed or not, named train-images-idx3-ubyte or train-images.idx3-ubyte
    and so on."""
    contents = []
    for name, md5 in MNIST_MD5.items():
        ways = [folder / f"{way}{end}" for way in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
        path = next((way for way in ways if way.is_file()), ways[0])
        contents.append(torch.frombuffer(bytearray(_check_md5(_read(path), path, md5, folder)), dtype=torch.uint8))
    images = torch.cat([content[16:].view(-1, 1, 28, 28) for content in contents[::2]])
    labels = [content[8:].long() for content in contents[1::2]]
    return Images("mnist", images, torch.cat(labels), DIGITS, test_count=len(labels[1]), **MNIST_SCALE)


def caltech101_labels() -> Images:
    folders = [name.split("/")[0] for name in md5_sums(CALTECH_MD5)]
    classes = sorted(set(folders))
    labels = torch.tensor([classes.index(folder) for folder in folders])
    pixels = torch.empty((len(labels), 3, CALTECH_SIZE, CALTECH_SIZE), dtype=torch.uint8, device="meta")
    return Images("caltech101", pixels, labels, tuple(classes), **IMAGENET_SCALE)


def caltech101_image(folder: Path, index: int) -> Tensor:
    """One image as :func:`caltech101` has it, 3 x 224 x 224, uint8; no other file is checked and decoded."""
    name, md5 = list(md5_sums(CALTECH_MD5).items())[index]
    return torch.from_numpy(_decoded(folder, name, md5).copy())


def _decoded(folder: Path, name: str, md5: str) -> np.ndarray:
    content = _check_md5(_read(folder / name), folder / name, md5, folder)
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB").resize((CALTECH_SIZE, CALTECH_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def caltech101(folder: Path) -> Images:
    """Caltech-101 from the folders of its classes in ``folder``."""
    md5_of = md5_sums(CALTECH_MD5)
    names = list(md5_of)
    labelled = caltech101_labels()
    shape = tuple(labelled.images.shape)
    # Other images or another size make another cache; its name ends in the checksum of its pixels.
    key = hashlib.md5(CALTECH_MD5.read_bytes() + repr(shape).encode(), usedforsecurity=False).hexdigest()[:8]
    caches = cache_folder()
    cache = next(caches.glob(f"caltech101-{key}-*.npy"), None)
    if cache is None:
        half_done = caches / f"caltech101-{key}.{os.getpid()}"

        def decode(i: int) -> None:
            pixels[i] = _decoded(folder, names[i], md5_of[names[i]])

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
