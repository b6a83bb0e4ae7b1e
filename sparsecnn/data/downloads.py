"""Real data sets, downloaded by torchvision where they are missing."""

import contextlib
import os
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from ..checks import SettingError
from ..files import REPOSITORY
from .images import TITLES

__all__ = ["DataError", "OfflineError", "data_root", "fetch"]

PATIENCE = 20  # seconds that a download may stand still


class DataError(RuntimeError):
    """A data set that is missing, cut short or altered. Notebooks show its one line instead of a traceback."""

    _render_traceback_ = SettingError._render_traceback_


class OfflineError(DataError):
    """A data set that is neither at hand nor to be downloaded."""


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


def fetch(name: str, root: Path) -> None:
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
