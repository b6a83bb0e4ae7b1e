"""A run in several sittings: its state between two epochs lies in a file, from which the next sitting goes on."""

import contextlib
import functools
import hashlib
import io
import pickle
import time
from pathlib import Path

import torch

from ..files import replacing

__all__ = ["SAVE_AFTER", "Sitting", "forget"]

SAVE_AFTER = 60.0  # seconds between two saves, so that runs of seconds pay for none
SEAL = 32  # bytes at the start of a file: what made the state and the state itself, hashed


class Sitting:
    """One sitting of a run, from now on.

    Args:
        path: the file; None keeps no state.
        made_by: all that the run's rows are a function of. A state that something else made, be it another version of
            this package's code, is as good as none.
    """

    def __init__(self, path: str | Path | None, made_by: dict):
        self.path = None if path is None else Path(path)
        self.made_by = repr((made_by, _code())).encode()
        self.began = self.saved = time.perf_counter()
        self.before = 0.0

    @property
    def seconds(self) -> float:
        """What the run took until now: this sitting, and the ones before it up to the state that this one took up."""
        return self.before + time.perf_counter() - self.began

    def take_up(self) -> dict | None:
        """The state that was saved last, on the CPU; None where there is none, or one that is damaged or not this
        run's. No code in the file is ever run."""
        if self.path is None:
            return None
        with contextlib.suppress(OSError, pickle.UnpicklingError):
            content = self.path.read_bytes()
            if content[:SEAL] == self._seal(content[SEAL:]):
                self.before, state = torch.load(io.BytesIO(content[SEAL:]), map_location="cpu", weights_only=True)
                return state
        return None

    def is_due(self) -> bool:
        """Whether the last save, or the start, is long enough ago."""
        return time.perf_counter() - self.saved >= SAVE_AFTER

    def save(self, state: dict) -> None:
        """Replaces the file as a whole.

        Raises:
            ResultsError: where it can't be written; it then is what it was.
        """
        if self.path is None:
            return
        content = io.BytesIO()
        torch.save((self.seconds, state), content)
        with replacing(self.path) as file:
            file.write(self._seal(content.getbuffer()))
            file.write(content.getbuffer())
        self.saved = time.perf_counter()

    def _seal(self, content: bytes | memoryview) -> bytes:
        seal = hashlib.sha256(self.made_by)
        seal.update(content)
        return seal.digest()


def forget(path: Path) -> None:
    """Removes a run's state, and what a process that was killed while it saved has left beside it."""
    with contextlib.suppress(OSError):  # what stays is in nobody's way
        for file in path.parent.glob(f"{path.stem}.*"):
            file.unlink()


@functools.cache
def _code() -> str:
    """The package's code, hashed: git's commit is not known everywhere, nor what was changed since."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
