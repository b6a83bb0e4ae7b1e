"""Where real data sets lie, and their download by pooch where they are missing."""

import contextlib
import gzip
import logging
import os
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from ..checks import SettingError
from ..files import HOME, named_folder, output_root
from ..progress import bar
from .images import TITLES

__all__ = ["BY_HAND", "DataError", "OfflineError", "cache_folder", "data_root", "fetch", "find", "md5_sums", "places"]

PATIENCE = 20  # seconds that a download may stand still
RETRIES = 2
SCHEMES = ("https",)
SERVERS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "caltech101": "https://data.caltech.edu/records/mzrjq-6wc02/files/",
}
ARCHIVES_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "caltech101": {"caltech-101.zip": "3138e1922a9193bfa496528edbbc45d0"},
}
# What its owners give to those alone who ask, by how to have it.
BY_HAND = {
    "kitti_range": "take the synced drives of 2011_09_26 from http://www.cvlibs.net/datasets/kitti/raw_data.php "
    "(registration, CC BY-NC-SA 3.0) and run python -m sparsecnn.data.kitti RAW_FOLDER",
}
# Folders under the data root, torchvision's first, then others that people have; and names that tell them.
PLACES = {
    "mnist": ("MNIST/raw", "MNIST", "mnist/raw", "mnist", "raw", "."),
    "caltech101": (
        "caltech101/101_ObjectCategories",
        "caltech-101/101_ObjectCategories",
        "101_ObjectCategories",
        "caltech101",
        "caltech-101",
        ".",
    ),
    "kitti_range": ("kitti_range", "."),
}
SIGNS = {
    "mnist": {
        f"{part}{dot}{end}"
        for part in ("train-images", "train-labels", "t10k-images", "t10k-labels")
        for dot in "-."
        for end in ("idx3-ubyte", "idx1-ubyte", "idx3-ubyte.gz", "idx1-ubyte.gz")
    },
    "caltech101": {"Faces", "Leopards", "airplanes"},
    "kitti_range": {"drive_0005", "sequence_b", "sequence_c"},
}


class DataError(RuntimeError):
    """A data set that is missing, cut short or altered. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


class OfflineError(DataError):
    """A data set that is neither at hand nor to be downloaded."""


def data_root() -> Path:
    """Where the data sets lie.

    Raises:
        SettingError: where SPARSECNN_DATA is not a whole path.
        DataError: where it names no folder, or one that may not be read.
    """
    named = named_folder("SPARSECNN_DATA")
    if named is None:
        return HOME / "data"
    if not os.path.isdir(named):
        raise DataError(f"SPARSECNN_DATA={named} is no folder: name the one that holds MNIST/ and caltech101/")
    if not os.access(named, os.R_OK | os.X_OK):
        raise DataError(f"SPARSECNN_DATA={named} may not be read by this user: change its mode, or name another folder")
    return named


def cache_folder() -> Path:
    """Where decoded images are kept."""
    return HOME / "build/cache"


def md5_sums(file: Path) -> dict[str, str]:
    """Of each file of a data set, by its place in the data set's folder; a line a file, as md5sum writes them."""
    return {name: md5 for md5, name in (line.split() for line in file.read_text(encoding="utf-8").splitlines())}


def places() -> str:
    """One line: where data, cache and results lie."""
    return f"Data in {data_root()}, cache in {cache_folder()}, results and figures in {output_root()}"


def find(name: str, root: Path) -> Path | None:
    """The folder under ``root`` that holds a real data set's files, all or some of them; None where there is none."""
    for place in PLACES[name]:
        if _holds(root / place) & SIGNS[name]:
            return root / place
    usual = root / PLACES[name][0]
    return usual if _holds(usual) else None  # whatever it is, it is not silently stood in for


def fetch(name: str, root: Path) -> Path:
    """The folder of a real data set, downloaded into ``root`` unless it is there; no archive is opened whose md5 is not
    the known one. What is to be had by hand alone is not downloaded.

    Raises:
        OfflineError: where that fails; it says what was looked for, and what is there instead.
    """
    if found := find(name, root):
        return found
    if name in BY_HAND:
        raise OfflineError(f"{_lacks(name, root)}; to have it, {BY_HAND[name]}")
    place = root / PLACES[name][0]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Downloaded beside its place, so that what breaks off leaves nothing that looks like a data set.
        with tempfile.TemporaryDirectory(dir=root, prefix="download-") as aside:
            unpacked = _download(name, Path(aside, "files"))
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(unpacked, place)
    except (OSError, ValueError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:  # requests' are OSErrors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OfflineError(f"{_lacks(name, root)}; its download failed: {reason}") from None
    return place


def _lacks(name: str, root: Path) -> str:
    there = ", ".join(sorted(_holds(root))) or "nothing"
    return f"no {TITLES[name]} in {root}: looked for {PLACES[name][0]}/, there is {there}"


def _download(name: str, folder: Path) -> Path:
    """Downloads and unpacks a data set into ``folder``; the folder of its files there."""
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)  # the caller says what went wrong
    registry = {file: f"md5:{md5}" for file, md5 in ARCHIVES_MD5[name].items()}
    archives = pooch.create(folder, SERVERS[name], registry=registry, retry_if_failed=RETRIES)
    for file in registry:
        _refuse_http(archives.get_url(file))
        with contextlib.closing(_Told(f"{TITLES[name]}, {file}")) as told:
            load = pooch.HTTPDownloader(told, 1 << 16, timeout=PATIENCE, hooks={"response": _refuse_detour})
            path = Path(archives.fetch(file, downloader=load))
        if path.suffix == ".gz":
            with gzip.open(path) as packed, path.with_suffix("").open("wb") as file:
                shutil.copyfileobj(packed, file)
            path.unlink()
        else:
            with zipfile.ZipFile(path) as archive:
                inner = archive.extract("caltech-101/101_ObjectCategories.tar.gz", folder)
            with tarfile.open(inner) as archive:
                archive.extractall(folder, filter="data")
            folder = folder / "101_ObjectCategories"
    return folder


class _Told:
    """What pooch takes for a bar."""

    def __init__(self, title: str):
        self.title, self.total, self.bar = title, 0, None

    def update(self, count: int) -> None:
        if self.bar is None:
            self.bar = bar(self.total, desc=self.title, unit="byte", unit_scale=True)
        self.bar.update(min(count, self.total - self.bar.n))

    def reset(self) -> None:
        """pooch counts up to the end once more."""

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _holds(folder: Path) -> set[str]:
    """The names in a folder but those of hidden files, as macOS leaves them."""
    try:
        return {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    except OSError:
        return set()


def _refuse_http(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise OSError(f"{url} is plain http, which is refused")


def _refuse_detour(response, **_) -> None:
    """Called by requests before it goes where a server sends it."""
    if response.is_redirect:
        _refuse_http(urljoin(response.url, response.headers["location"]))
