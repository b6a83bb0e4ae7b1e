"""Where results and figures lie, and files that are only ever replaced as a whole."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .checks import SettingError

__all__ = [
    "HOME",
    "PUBLISHED",
    "REPOSITORY",
    "ResultsError",
    "check_writable",
    "named_folder",
    "naming_failures",
    "output_root",
    "replacing",
]

REPOSITORY = Path(__file__).resolve().parent.parent
# Where data, cache and results lie, if nothing else is said: in the repository; for a package that was installed or
# copied elsewhere, in the folder in which Python was started.
HOME = REPOSITORY if (REPOSITORY / "results/published").is_dir() else Path.cwd()
# Others' numbers, which a wheel brings along.
PUBLISHED = REPOSITORY / "results/published"
if not PUBLISHED.is_dir():
    PUBLISHED = Path(__file__).with_name("published")


class ResultsError(RuntimeError):
    """Results that are not there, or can't be read as this code's. Notebooks show its one line, not a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def output_root() -> Path:
    """The folder of results/ and figures/: the environment's SPARSECNN_OUTPUT, or the repository.

    Raises:
        SettingError: where SPARSECNN_OUTPUT is not a whole path.
    """
    return named_folder("SPARSECNN_OUTPUT") or HOME


def named_folder(variable: str) -> Path | None:
    """The folder that the environment's ``variable`` names, None where it is unset or empty. A notebook runs in another
    folder than papermill, so a relative path would be another one there: it is refused."""
    named = os.environ.get(variable)
    if named and not os.path.isabs(named):
        raise SettingError(f"{variable}={named} is not allowed: a whole path, say {Path(named).absolute()}")
    return Path(named) if named else None


def check_writable(folder: Path) -> None:
    """A folder that results can't be written to is an error before any work starts."""
    with naming_failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def replacing(path: Path, variable: str = "SPARSECNN_OUTPUT") -> Iterator[BinaryIO]:
    """A file to write in, which takes the place of ``path`` as a whole once it is complete and on the disk.
    ``variable`` of the environment names its folder.

    Raises:
        ResultsError: where that fails; ``path`` then is what it was.
    """
    aside = path.with_suffix(f".new{path.suffix}")
    with naming_failures(path, variable):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_failures(path: Path, variable: str = "SPARSECNN_OUTPUT") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"{path} can't be written ({error.strerror or error}): what is stored stays as it was; "
            f"mend that, or name another folder in {variable}, and start again"
        ) from error
