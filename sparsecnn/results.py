"""The store of finished runs: results/runs/<dataset>_<protocol>.csv, one row an epoch of a run.

A row holds the Experiment's fields, what was measured after that epoch, and where it was measured. A file is only ever
replaced as a whole, under a lock, so a reader never sees half a run. Whoever trains a run holds its claim meanwhile: a
lock that the system takes back when its holder dies, so that sweeps on one store share the work.
"""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from filelock import FileLock, Timeout

from .datasets import REPOSITORY
from .experiment import DATASETS, PROTOCOLS, Experiment, SettingError, check_choice

__all__ = [
    "MEASURED",
    "PROVENANCE",
    "ResultsError",
    "check_writable",
    "claim",
    "no_rows",
    "of_experiments",
    "output_root",
    "read",
    "release",
    "replacing",
    "reported_row",
    "retrained",
    "retrained_path",
    "runs_folder",
    "store",
    "unfinished",
]

KINDS = {field.name: field.type for field in fields(Experiment)}
# Columns that came later, and what they are in rows from before.
LATER = {
    "split": "own",
    "optimiser": "Adam",
    "trained_at": "own sparsity",
    "tested_at": "own sparsity",
    "test_correct": None,
    "transfer": "",
}
SETTINGS = list(KINDS)
# Loss per image; accuracies in percent. Training loss and accuracy are running means over the epoch. The correctly
# classified test images are a number a class, with blanks between. Transfer, in the row of the reported epoch of runs
# tested at every sparsity, is test accuracy under other masks, kind:sparsity=accuracy with blanks between; else empty.
MEASURED = ["epoch", "train_loss", "train_accuracy", "validation_accuracy", "test_accuracy", "test_correct", "transfer"]
PATTERNS = {"test_correct": r"\d+( \d+)*", "transfer": r"(\w+:[\d.]+=[\d.]+( (?=\w)|$))*"}
# Seconds and device are the whole run's; commit is that of the package's code.
PROVENANCE = ["device", "torch", "precision", "seconds", "commit"]
COLUMNS = SETTINGS + MEASURED + PROVENANCE
# A run is found by these, so they are read by Python, which gives back the very number that was written.
FRACTIONS = [name for name, kind in KINDS.items() if kind is float]
# The columns that must hold a value, and its type. A diverged run has no loss, one without validation images has no
# accuracy on them, and code outside git has no commit.
FILLED = KINDS | {"epoch": int, "test_accuracy": float, "device": str, "torch": str, "precision": str, "seconds": float}
REMEDY = "mend it, take its last version from git, or move it away to train its runs anew"


class ResultsError(RuntimeError):
    """Results that are not there, or can't be read as this code's. Notebooks show its one line, not a traceback."""

    _render_traceback_ = SettingError._render_traceback_


def output_root() -> Path:
    """The folder of results/ and figures/: the environment's SPARSECNN_OUTPUT, or the repository."""
    return Path(os.environ.get("SPARSECNN_OUTPUT") or REPOSITORY)


def read(dataset: str, protocol: str) -> pd.DataFrame:
    """Every stored row of a data set and protocol, with the columns settings, measured, provenance.

    Raises:
        ResultsError: for a file that does not hold whole runs as this version writes them; it says where.
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("protocol", protocol, PROTOCOLS)
    return _read(_path(dataset, protocol))


def retrained_path() -> Path:
    return output_root() / "results/precision_caltech101.csv"


def retrained() -> pd.DataFrame:
    """The rows in :func:`retrained_path`, as :func:`read` has them: runs that are stored in float32, trained once more
    in bf16 by benchmarks/precision.py."""
    return _read(retrained_path())


def no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=COLUMNS)


def of_experiments(experiments: list[Experiment], rows: pd.DataFrame | None = None) -> pd.DataFrame:
    """The stored rows (or those of ``rows``) of these experiments, with the column ``run``: the index in the list.

    A run that was also tested at every sparsity serves for one that was not, where that one is not there itself.
    """
    if rows is None:
        groups = sorted({(experiment.dataset, experiment.protocol) for experiment in experiments})
        tables = [table for table in (read(*group) for group in groups) if len(table)]
        rows = pd.concat(tables, ignore_index=True) if tables else no_rows()
    position = {experiment: i for i, experiment in enumerate(experiments)}
    of_rows = _experiments(rows)
    for experiment in position.keys() - set(of_rows):
        if experiment.tested_at == "own sparsity":
            position.setdefault(replace(experiment, tested_at="every sparsity"), position[experiment])
    runs = [position.get(experiment, -1) for experiment in of_rows]
    return rows.assign(run=runs).query("run >= 0").sort_values(["run", "epoch"], ignore_index=True)


def reported_row(epochs: pd.DataFrame, rule: str) -> int:
    """The label of the row that a run with these rows, an epoch each, reports: of the "last" epoch, or of the best
    accuracy on "validation" or "test" images, the earliest among equals."""
    return epochs["epoch" if rule == "last" else f"{rule}_accuracy"].idxmax()


def store(rows: pd.DataFrame) -> bool:
    """Adds one finished run; False, and nothing changes, where that run is stored already.

    Raises:
        ResultsError: where the store can't be written; what it held stays as it was.
    """
    runs = set(_experiments(rows))
    if len(runs) != 1:
        raise ValueError(f"the rows of {len(runs)} runs are not allowed: those of one")
    (experiment,) = runs
    path = _path(experiment.dataset, experiment.protocol)
    with _named_where_it_fails(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            stored = _read(path)
            if experiment in set(_experiments(stored)):
                return False
            both = pd.concat([stored, rows[COLUMNS]], ignore_index=True) if len(stored) else rows[COLUMNS]
            with replacing(path) as file:
                both.to_csv(file, index=False)
    return True


def claim(experiment: Experiment) -> FileLock | None:
    """The right to train a run, until :func:`release`; None where another process has it.

    Whoever had it before may have stored the run: look into the store after claiming, not before.
    """
    lock = FileLock(runs_folder() / "claims" / _name(experiment))
    with _named_where_it_fails(_path(experiment.dataset, experiment.protocol)):
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
    return lock


def release(claimed: FileLock) -> None:
    """Gives a claim back."""
    # Removed while it is held; filelock sees that the file it then locked is gone, and tries again.
    with contextlib.suppress(PermissionError):  # Windows removes no open file
        Path(claimed.lock_file).unlink(missing_ok=True)
    claimed.release()


def unfinished(experiment: Experiment) -> Path:
    """Where the state of a run lies until it is stored; only whoever has its claim may touch it."""
    return output_root() / "results/unfinished" / f"{_name(experiment)}.pt"


def check_writable(folder: Path) -> None:
    """A folder that results can't be written to is an error before any work starts."""
    with _named_where_it_fails(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in, which takes the place of ``path`` as a whole once it is complete and on the disk.

    Raises:
        ResultsError: where that fails; ``path`` then is what it was.
    """
    aside = path.with_suffix(f".new{path.suffix}")
    with _named_where_it_fails(path):
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
def _named_where_it_fails(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"{path} can't be written ({error.strerror or error}): what is stored stays as it was; "
            "mend that, or name another folder in SPARSECNN_OUTPUT, and start again"
        ) from error


def runs_folder() -> Path:
    """Where the store lies."""
    return output_root() / "results/runs"


def _path(dataset: str, protocol: str) -> Path:
    return runs_folder() / f"{dataset}_{protocol}.csv"


def _name(experiment: Experiment) -> str:
    """A file name for a run."""
    values = [kind(getattr(experiment, name)) for name, kind in KINDS.items()]  # 0 and 0.0 are one sparsity
    return f"{experiment.dataset}_{experiment.protocol}_{hashlib.sha256(repr(values).encode()).hexdigest()[:16]}"


def _read(path: Path) -> pd.DataFrame:
    try:
        text = path.read_text()
        # Blank lines are kept, so that a row's number gives its line.
        rows = pd.read_csv(io.StringIO(text), skip_blank_lines=False, dtype=dict.fromkeys((*PATTERNS, *FRACTIONS), str))
    except FileNotFoundError:
        return no_rows()
    except (OSError, ValueError) as error:  # pandas' errors, and those of bytes that are no text, are ValueErrors
        raise ResultsError(f"{path} can't be read ({' '.join(str(error).split())}): {REMEDY}") from error
    if not text.endswith("\n"):
        raise ResultsError(f"{path} is cut short, its last line has no end: {REMEDY}")
    for name, default in LATER.items():
        if name not in rows.columns:
            rows.insert(COLUMNS.index(name), name, default)
    if list(rows.columns) != COLUMNS:
        odd = ", ".join(sorted(set(rows.columns) ^ set(COLUMNS))) or "their order"
        raise ResultsError(f"{path} does not hold this version's columns ({odd}): {REMEDY}")

    def refuse(wrong: pd.Series, name: str) -> None:
        if wrong.any():
            row = wrong.idxmax()
            raise ResultsError(f"{path}, line {row + 2}: {name}={rows.at[row, name]!s} is not allowed: {REMEDY}")

    rows["transfer"] = rows["transfer"].fillna("")
    for name in FRACTIONS:
        rows[name] = rows[name].map(_number)
    for name, pattern in PATTERNS.items():
        refuse(rows[name].notna() & ~rows[name].astype(str).str.fullmatch(pattern), name)
    for name in [name for name in COLUMNS if name not in (*PATTERNS, "commit")]:
        kind = FILLED.get(name, float)
        values = rows[name] if kind is str else pd.to_numeric(rows[name], errors="coerce")
        refuse(values.isna() & (rows[name].notna() | (name in FILLED)), name)
        if kind is int:
            refuse((values % 1 != 0) | (values.abs() > 2**53), name)
        if name.endswith("accuracy"):
            refuse((values < 0) | (values > 100), name)
    try:
        experiments = _experiments(rows)
    except SettingError as error:
        raise ResultsError(f"{path} holds a run that this version does not know ({error}): {REMEDY}") from error
    epochs: dict[Experiment, list[int]] = {}
    for experiment, epoch in zip(experiments, rows["epoch"], strict=True):
        epochs.setdefault(experiment, []).append(int(epoch))
    for experiment, found in epochs.items():
        if found != list(range(1, experiment.epochs + 1)):
            raise ResultsError(
                f"{path} holds the epochs {found} of {experiment}, which are not one whole run: {REMEDY}"
            )
    return rows


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # for the message


def _experiments(rows: pd.DataFrame) -> list[Experiment]:
    columns = [rows[name].astype(kind).tolist() for name, kind in KINDS.items()]
    known: dict[tuple, Experiment] = {}  # a run's rows share one
    found = []
    for values in zip(*columns, strict=True):
        if values not in known:
            known[values] = Experiment(**dict(zip(KINDS, values, strict=True)))
        found.append(known[values])
    return found
