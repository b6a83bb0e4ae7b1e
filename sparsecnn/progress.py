"""How far work is, said where it is seen: a bar in a page or a terminal; lines elsewhere, with the time that is left.

Papermill, nbconvert and nbval show nothing of a cell before it ends, so there the lines go to the kernel's own stderr.
"""

import os
import sys
from typing import TextIO

import tqdm
import tqdm.auto

__all__ = ["bar", "has_page", "say"]

APART = 10  # seconds between two lines at least


def has_page() -> bool:
    """Whether a page is open on this kernel (JupyterLab, Colab, VS Code). A page may be asked for input; papermill,
    nbconvert and nbval may not, even where they were started from a page and have its environment."""
    kernel = _kernel()
    request = kernel.get_parent("shell") if kernel else None
    return bool(request and request["content"].get("allow_stdin"))


def say(line: str) -> None:
    """A line for whoever waits: in a notebook in the cell's output, and on stderr where no page is open."""
    if _kernel():
        print(line, flush=True)
    if not has_page():
        print(line, file=_stderr(), flush=True)


def bar(total: int, **options) -> tqdm.tqdm:
    """A tqdm bar of ``total`` steps, or its lines; ``options`` are tqdm's."""
    if has_page():
        return tqdm.auto.tqdm(total=total, **options)
    file = _stderr()
    kind = tqdm.tqdm if file.isatty() and not _kernel() else _Lines
    return kind(total=total, file=file, smoothing=0, **options)


class _Lines(tqdm.tqdm):
    LAYOUT = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} left{postfix}"

    def __init__(self, *args, **options):
        super().__init__(*args, mininterval=APART, bar_format=self.LAYOUT, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        print(str(self) if msg is None else msg, file=self.fp, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Lines stay."""

    def close(self) -> None:
        if not self.disable:
            self.display()
            self.leave, self.display = False, lambda *_, **__: None  # tqdm would end it with an empty line
        super().close()


def _kernel():
    """The kernel that this process is, None in other processes."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None)


def _stderr() -> TextIO:
    """This process's own: a kernel puts a stream into the cell's output in its place, whose number is that of the
    first, where it has one."""
    if not _kernel():
        return sys.stderr
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
    except OSError:
        return sys.__stderr__
